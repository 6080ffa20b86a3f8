"""Settings from file, environment and flags: which one wins, and what a mistake is answered with."""

from collections.abc import Callable, Mapping
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.config.load import Loaded, load_settings
from broker.config.settings import RoomRule, Settings
from broker.errors import ConfigurationError


@attrs.frozen
class Loading:
    """Loads settings from a text as if from `greenroom.toml`."""

    file: Path

    def __call__(
        self,
        text: str = "",
        environ: Mapping[str, str] | None = None,
        flags: Mapping[str, object] | None = None,
    ) -> Loaded:
        self.file.write_text(text, encoding="utf-8")
        return load_settings(file=self.file, environ=environ or {}, flags=flags or {})

    def problems(
        self, text: str = "", environ: Mapping[str, str] | None = None, **flags: object
    ) -> list[str]:
        """Return the lines of the refusal; the file is called FILE in them."""
        with pytest.raises(ConfigurationError) as caught:
            self(text, environ, flags)
        return str(caught.value).replace(str(self.file), "FILE").splitlines()


@pytest.fixture
def load(tmp_path: Path) -> Loading:
    return Loading(tmp_path / "greenroom.toml")


def test_with_nothing_set_all_is_default() -> None:
    loaded = load_settings(file=None, environ={"PATH": "/bin", "GREEN": "1"}, flags={})
    assert loaded.settings == Settings()
    assert set(loaded.origins.values()) == {"default"}
    assert loaded.origins["limits.text_characters"] == "default"


def test_the_file_is_overridden_by_the_environment_and_that_by_flags(load: Loading) -> None:
    text = '[server]\nport = 1\nhost = "file"\n[limits]\ntext_characters = 10\n'
    environ = {"GREENROOM_SERVER__PORT": "2", "GREENROOM_SERVER__HOST": "environment"}
    loaded = load(text, environ, {"server.port": 3, "server.engine": None})
    server = loaded.settings.server
    assert (server.port, server.host, server.engine) == (3, "environment", "memory://")
    assert loaded.settings.limits.text_characters == 10
    assert loaded.origins["server.port"] == "--port"
    assert loaded.origins["server.host"] == "GREENROOM_SERVER__HOST"
    assert loaded.origins["server.engine"] == "default"
    assert loaded.origins["limits.text_characters"] == f"{load.file}:5"


def test_the_environment_holds_every_kind_of_value(load: Loading) -> None:
    environ = {
        "GREENROOM_SECRET": "12345",
        "GREENROOM_API_KEY": "true",
        "GREENROOM_AUTH__PRIVATE_USER_ROOMS": "False",
        "GREENROOM_AUTH__ALGORITHMS": "RS256, ES256",
        "GREENROOM_HTTP__CORS_ORIGINS": "",
        "GREENROOM_WEBSOCKET__ALLOWED_ORIGINS": "https://a.example",
        "GREENROOM_LIMITS__MESSAGES_PER_SECOND": "0.5",
        "GREENROOM_LOG__LEVEL": "debug",
    }
    settings = load("", environ).settings
    assert (settings.auth.secret, settings.http.api_key) == ("12345", "true")
    assert settings.auth.private_user_rooms is False
    assert settings.auth.algorithms == ("RS256", "ES256")
    assert settings.http.cors_origins == ()
    assert settings.websocket.allowed_origins == ("https://a.example",)
    assert settings.limits.messages_per_second == 0.5
    assert settings.log.level == "debug"


def test_the_command_lines_own_variables_set_nothing() -> None:
    environ = {"GREENROOM_URL": "u", "GREENROOM_TOKEN": "t", "GREENROOM_CONFIG": "c"}
    assert load_settings(file=None, environ=environ, flags={}).settings == Settings()


def test_room_rules_come_in_their_order_with_their_lines(load: Loading) -> None:
    text = '[[rooms]]\npattern = "a.*"\naccess = "token"\n\n[[rooms]]\npattern = "*"\nhistory_messages = 0\n'
    loaded = load(text)
    assert loaded.settings.rooms == (
        RoomRule(pattern="a.*", access="token"),
        RoomRule(pattern="*", history_messages=0),
    )
    assert loaded.origins["rooms[0].access"] == f"{load.file}:3"
    assert loaded.origins["rooms[1].history_messages"] == f"{load.file}:7"
    assert loaded.origins["rooms[1].access"] == "default"


def test_room_rules_may_stand_in_one_list(load: Loading) -> None:
    loaded = load('rooms = [\n  {pattern = "a"},\n  {pattern = "b"},\n]\n')
    assert [rule.pattern for rule in loaded.settings.rooms] == ["a", "b"]
    assert loaded.origins["rooms[1].pattern"] == f"{load.file}:3"
    assert load("rooms = []").settings.rooms == ()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[limits]\ntext_charcters = 1", "FILE:2: limits.text_charcters: no such key; the nearest known is limits.text_characters "),
        ("[server]\nsecret = 's3cr3t'", "FILE:2: server.secret: no such key; the nearest known is auth.secret "),
        ("\nport = 80", "FILE:2: port: no such key; the nearest known is server.port "),
        ("[limitz]\na = 1\nb = 2", "FILE:1: [limitz]: no such table; the nearest known is [limits]"),
        ("[[roms]]\n", "FILE:1: [roms]: no such table; the nearest known is [rooms]"),
        ("server = 1", "FILE:1: server: must be a table: [server]"),
        ("[[server]]\nport = 1", "FILE:1: server: must be a table: [server]"),
        ("[rooms]\npattern = 'a'", "FILE:1: rooms: must be a list of tables: [[rooms]]"),
        ("rooms = [1]", "FILE:1: rooms: must be a list of tables: [[rooms]]"),
        ("[[rooms]]\npattern = 'a'\n[[rooms]]\n", "FILE:3: rooms[1].pattern: missing; must be text of 1 to 128 characters"),
        ("[[rooms]]\npattern = 'a'\nacess = 'any'", "FILE:3: rooms[0].acess: no such key; the nearest known is rooms[0].access "),
        ("[[rooms]]\npattern = 'a'\naccess = 'all'", "FILE:3: rooms[0].access: must be one of any, none, token, not 'all'"),
        ("[server]\nport = 65536", "FILE:2: server.port: must be a whole number from 0 to 65535, not 65536"),
        ("[server]\nport = true", "FILE:2: server.port: must be a whole number from 0 to 65535, not true"),
        ("[server]\nport = '80'", "FILE:2: server.port: must be a whole number from 0 to 65535, not '80'"),
        ("[server]\nhost.name = 'x'", "FILE:2: server.host: must be text, not a table"),
        ("[server]\ndrain_seconds = nan", "FILE:2: server.drain_seconds: must be a number from 0 to 3600, not nan"),
        ("[http]\nkeep_alive_seconds = 0", "FILE:2: http.keep_alive_seconds: must be a number above 0 and at most 86400, not 0"),
        ("[auth]\nprivate_user_rooms = 1", "FILE:2: auth.private_user_rooms: must be true or false, not 1"),
        ("[auth]\nalgorithms = []", "FILE:2: auth.algorithms: must be a list of 1 or more items, each one of ES256, "),
        ("[http]\ncors_origins = 'x'", "FILE:2: http.cors_origins: must be a list, each text, not 'x'"),
        ("[auth]\nsecret = 12345678", "FILE:2: auth.secret: must be text"),
        ("[server]\nport = \n", "FILE:2: not valid TOML: "),
        ("[server]\nport = 1\nport = 2\n", "FILE:3: not valid TOML: "),
        ("[server]\nhost = '''\n\n", "FILE:2: not valid TOML: "),
    ],
)  # fmt: skip
def test_a_mistake_in_the_file_is_told_with_its_line(load: Loading, text: str, problem: str) -> None:
    [told] = load.problems(text)
    assert told.startswith(problem)


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("GREENROOM_LIMITS__TEXT_CHARACTERS", "abc", "limits.text_characters: must be a whole number from 1 to 10000000, not 'abc'"),
        ("GREENROOM_LIMITS__TEXT_CHARACTERS", "", "limits.text_characters: must be a whole number from 1 to 10000000, not ''"),
        ("GREENROOM_AUTH__PRIVATE_USER_ROOMS", "maybe", "auth.private_user_rooms: must be true or false, not 'maybe'"),
        ("GREENROOM_LIMITS__TEXT_CHARACTER", "5", "no such variable; the nearest known is GREENROOM_LIMITS__TEXT_CHARACTERS "),
        ("GREENROOM_limits__text_characters", "5", "no such variable; the nearest known is GREENROOM_LIMITS__TEXT_CHARACTERS "),
        ("GREENROOM_SECRT", "5", "no such variable; the nearest known is GREENROOM_SECRET "),
        ("GREENROOM_PORT", "5", "no such variable; the nearest known is GREENROOM_SERVER__PORT "),
        ("GREENROOM_SERVER_PORT", "5", "no such variable; the nearest known is GREENROOM_SERVER__PORT "),
        ("GREENROOM_", "5", "no such variable; the nearest known is GREENROOM_"),
        ("GREENROOM_ROOMS__PATTERN", "*", "no such variable; tables in lists are set in the file only"),
        ("GREENROOM_SECRET", "\udcff", "sets auth.secret, which must be UTF-8"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_environment_is_told_with_its_variable(
    load: Loading, variable: str, value: str, problem: str
) -> None:
    [told] = load.problems("", {variable: value})
    assert told.startswith(f"{variable}: {problem}")


def test_two_variables_for_one_secret_are_refused(load: Loading) -> None:
    [told] = load.problems("", {"GREENROOM_SECRET": "one", "GREENROOM_AUTH__SECRET": "two"})
    assert told == (
        "GREENROOM_AUTH__SECRET: sets auth.secret, which GREENROOM_SECRET sets as well: keep one of them"
    )
    assert load("", {"GREENROOM_AUTH__SECRET": "two"}).settings.auth.secret == "two"


def test_a_mistake_in_a_flag_is_told_with_its_name(load: Loading) -> None:
    assert load.problems(**{"server.port": 70_000}) == [
        "--port: server.port: must be a whole number from 0 to 65535, not 70000"
    ]
    [told] = load.problems(**{"server.prot": 1})
    assert told.startswith("server.prot: no such key; the nearest known is server.port ")


def test_all_mistakes_are_told_at_once_a_line_each(load: Loading) -> None:
    told = load.problems(
        "[server]\nport = -1\n[auth]\nx = 1\n", {"GREENROOM_LOG__LEVEL": "loud"}, **{"server.host": 1}
    )
    assert [line.split(": ")[0] for line in told] == ["FILE:2", "FILE:4", "GREENROOM_LOG__LEVEL", "--host"]


def test_no_secret_is_in_a_refusal(load: Loading) -> None:
    told = load.problems(
        "[auth]\nsecret = ['hunter2']\nsecrt = 'hunter2'\n[http]\napi_key = {x = 'hunter2'}\n",
        {"GREENROOM_SECRT": "hunter2"},
    )
    assert len(told) == 4
    assert "hunter2" not in "".join(told)


def test_a_long_bad_value_is_told_in_part(load: Loading) -> None:
    [told] = load.problems(f"[log]\nlevel = '{'x' * 500}'")
    assert len(told) < 200
    assert told.endswith("x...")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    def refusal(file: Path) -> str:
        with pytest.raises(ConfigurationError) as caught:
            load_settings(file=file, environ={}, flags={})
        return str(caught.value)

    assert refusal(tmp_path / "none") == f"{tmp_path}/none: cannot be read: No such file or directory"
    (tmp_path / "latin1").write_bytes("# é".encode("latin-1"))
    assert refusal(tmp_path / "latin1") == f"{tmp_path}/latin1: must be UTF-8 (byte 2 is not)"


def test_the_settings_do_not_show_in_a_repr(load: Loading) -> None:
    assert "hunter2" not in repr(load("[auth]\nsecret = 'hunter2'"))


NUMBERS = st.floats() | st.integers() | st.sampled_from([0, 1, 65_535, 65_536, -1])


@given(value=NUMBERS | st.text(max_size=5) | st.booleans() | st.lists(st.text(max_size=3), max_size=2))
def test_a_flag_is_either_taken_as_it_is_or_refused(value: object) -> None:
    keys: Mapping[str, Callable[[Settings], object]] = {
        "server.port": lambda settings: settings.server.port,
        "server.drain_seconds": lambda settings: settings.server.drain_seconds,
        "auth.audience": lambda settings: settings.auth.audience,
        "http.cors_origins": lambda settings: list(settings.http.cors_origins),
    }
    for key, read in keys.items():
        flag = "--" + key.split(".")[1].replace("_", "-")
        try:
            told = read(load_settings(file=None, environ={}, flags={key: value}).settings)
        except ConfigurationError as error:
            told = str(error)
        assert told == value or str(told).startswith(f"{flag}: {key}: must be ")
