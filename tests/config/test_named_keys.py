"""`[[http.api_keys]]` in the file: read, checked, shown without its secrets, and reloaded."""

from pathlib import Path

import msgspec
import pytest

from broker.config.check import check_settings, find_flaws
from broker.config.load import Loaded, load_settings
from broker.config.reload import plan_reload
from broker.config.render import render_settings
from broker.config.settings import ApiKeySettings, HttpSettings, Settings
from broker.errors import ConfigurationError
from tests.support.secrets import API_KEY, SECRET

OTHER_KEY = API_KEY[::-1]
SHOP = f'[[http.api_keys]]\nname = "shop"\nkey = "{OTHER_KEY}"\nscopes = ["publish:orders.*", "read"]\n'


def load(folder: Path, text: str, **environ: str) -> Loaded:
    file = folder / "greenroom.toml"
    file.write_text(text)
    return load_settings(file=file, environ={"GREENROOM_SECRET": SECRET, **environ}, flags={})


def problems(settings: Settings, *, dev: bool = False, origins: dict[str, str] | None = None) -> list[str]:
    found = check_settings(settings, dev=dev, engine_schemes=["memory"], origins=origins or {})
    return [str(problem) for problem in found]


def with_keys(*entries: ApiKeySettings, **http: str) -> Settings:
    made = Settings(http=HttpSettings(api_keys=entries, **http))
    return msgspec.structs.replace(made, auth=msgspec.structs.replace(made.auth, secret=SECRET))


def key(**changed: object) -> ApiKeySettings:
    fields: dict[str, object] = {"name": "shop", "key": OTHER_KEY, "scopes": ("read",)}
    return ApiKeySettings(**(fields | changed))  # type: ignore[arg-type]


def test_a_named_key_is_enough_without_the_single_one(tmp_path: Path) -> None:
    loaded = load(tmp_path, f"[http]\nbody_bytes = 9\n{SHOP}[log]\nlevel = 'debug'\n")
    (shop,) = loaded.settings.http.api_keys
    assert (shop.name, shop.key, shop.scopes) == ("shop", OTHER_KEY, ("publish:orders.*", "read"))
    assert loaded.origins["http.api_keys[0].key"] == f"{tmp_path}/greenroom.toml:5"
    assert loaded.origins["http.api_keys[0].previous_key"] == "default"
    assert problems(loaded.settings) == []
    assert OTHER_KEY not in repr(loaded.settings)


def test_a_key_is_read_from_its_file_and_shown_nowhere(tmp_path: Path) -> None:
    secret = tmp_path / "shop.key"
    secret.write_text(f" {OTHER_KEY}\n")
    secret.chmod(0o400)
    text = (
        SHOP
        + f'[[http.api_keys]]\nname = "b"\nkey_file = "{secret}"\nprevious_key = "{SECRET}"\nscopes = ["admin"]\n'
    )
    loaded = load(tmp_path, text, GREENROOM_API_KEY=API_KEY)
    assert [entry.key for entry in loaded.settings.http.api_keys] == [OTHER_KEY, OTHER_KEY]
    assert loaded.origins["http.api_keys[1].key"] == f"{tmp_path}/greenroom.toml:7 ({secret})"
    shown = render_settings(loaded)
    assert not [word for word in (OTHER_KEY, API_KEY, SECRET) if word in shown]
    assert f'key_file = "{secret}"  # {tmp_path}/greenroom.toml:7' in shown
    # The key that stands in the file itself is left out; all else is loaded again.
    again = load(tmp_path, shown, GREENROOM_API_KEY=API_KEY).settings.http.api_keys
    assert [(entry.name, entry.key, entry.scopes) for entry in again] == [
        ("shop", None, ("publish:orders.*", "read")),
        ("b", OTHER_KEY, ("admin",)),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SHOP + f'key_file = "{API_KEY}"\n', "names a file for it as well: keep one of them"),
        ('[[http.api_keys]]\nkey = "hunter2"\nscopes = ["read"]\n', "1: http.api_keys[0].name: missing"),
        ('[[http.api_keys]]\nname = "a"\nkey = "hunter2"\n', "1: http.api_keys[0].scopes: missing"),
        ('[[http.api_keys]]\nname = "a b"\n', "2: http.api_keys[0].name: must be"),
        (SHOP + "scops = []\n", "the nearest known is http.api_keys[0].scopes"),
        (SHOP + 'previous_key = ["hunter2"]\n', "http.api_keys[0].previous_key: must be text"),
        ('[http]\napi_keys = "hunter2"\n', "2: http.api_keys: must be a list of tables: [[http.api_keys]]"),
        ('[http.api_keys]\nname = "a"\n', "must be a list of tables: [[http.api_keys]]"),
        ('[[http.api_keys]]\nname = "a"\nscopes = []\n', "http.api_keys[0].scopes: must be"),
        ('[[api_keys]]\nname = "a"\n', "no such table"),
    ],
)
def test_mistakes_in_the_file_are_found_with_their_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, text)
    assert message in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert API_KEY not in str(caught.value)


def test_a_variable_cannot_set_a_table() -> None:
    environ = {"GREENROOM_HTTP__API_KEYS": "hunter2"}
    with pytest.raises(ConfigurationError, match="tables in lists are set in the file only"):
        load_settings(file=None, environ=environ, flags={})


FLAWS = {
    "no key": ([key(key=None)], "http.api_keys[0].key: missing"),
    "a short key": ([key(key="abc")], "http.api_keys[0].key: too short"),
    "a weak previous key": ([key(previous_key="a" * 16)], "http.api_keys[0].previous_key: too weak"),
    "no header's word": ([key(key="schlüssel-" + OTHER_KEY)], "http.api_keys[0].key: printable ASCII"),
    "one name twice": ([key(), key(key=SECRET)], "http.api_keys[1].name: shop is the name of another key"),
    "the single key's name": ([key(name="http.api_key")], "http.api_keys[0].name: http.api_key is the name"),
    "one key twice": (
        [key(), key(name="b")],
        "http.api_keys[1].key: is the same as that of http.api_keys[0]",
    ),
    "the single key again": ([key(key=API_KEY)], "http.api_keys[0].key: is the same as that of http.api_key"),
    "two equal keys": ([key(previous_key=OTHER_KEY)], "http.api_keys[0].previous_key: is the same"),
    "no scope": ([key(scopes=("write",))], "http.api_keys[0].scopes: 'write' is none of"),
    "a pattern that matches nothing": (
        [key(scopes=("read:a/b",))],
        "http.api_keys[0].scopes: 'read:a/b' holds",
    ),
}


@pytest.mark.parametrize(("entries", "message"), FLAWS.values(), ids=FLAWS)
def test_a_key_that_cannot_be_meant_is_refused(entries: list[ApiKeySettings], message: str) -> None:
    (found,) = problems(with_keys(*entries, api_key=API_KEY))
    assert found.startswith(message)
    assert OTHER_KEY not in found
    # The place is the file's line where there is one.
    path = message.partition(": ")[0]
    (placed,) = problems(with_keys(*entries, api_key=API_KEY), origins={path: "greenroom.toml:7"})
    assert placed.startswith(f"greenroom.toml:7: {path}: ")


@pytest.mark.parametrize("flaw", ['"{}"', "{}\n", " {}", "${{{}}}"])
def test_a_key_as_copying_leaves_it_is_refused(flaw: str) -> None:
    settings = with_keys(key(key=flaw.format(OTHER_KEY)))
    (problem,) = find_flaws(settings)
    assert problem.place == "http.api_keys[0].key"
    assert OTHER_KEY not in problem.message


def test_the_single_key_is_needed_without_others_and_its_previous_one_never_stands_alone() -> None:
    (missing,) = problems(with_keys())
    assert missing.startswith("http.api_key: missing")
    assert problems(with_keys(key())) == []
    (alone,) = problems(with_keys(key(), previous_api_key=API_KEY))
    assert alone == "http.previous_api_key: needs http.api_key, which takes its place"
    assert problems(with_keys(key(key="weak")), dev=True) == []


def test_named_keys_are_reloaded() -> None:
    present, changed = with_keys(key(), api_key=API_KEY), with_keys(key(scopes=("admin",)), api_key=API_KEY)
    plan = plan_reload(present, changed)
    assert (plan.settings, plan.reloaded, plan.needs_restart) == (changed, ("http.api_keys",), ())
