"""Secrets from files: each secret, in each way to name its file; no error shows a secret."""

import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.config.keys import SHORT_VARIABLES, Key, read_schema
from broker.config.load import Loaded, load_settings
from broker.config.render import render_settings
from broker.config.secret_files import MAX_SECRET_BYTES, read_secret
from broker.config.settings import Settings
from broker.errors import ConfigurationError
from tests.support.secrets import SECRET

SCHEMA = read_schema(Settings)
FILE_KEYS = {key.dotted: key for key in SCHEMA.file_keys()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def write(path: Path, text: str | bytes, mode: int = 0o400) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return path


def load(environ: Mapping[str, str], file: Path | None = None, **flags: object) -> Loaded:
    return load_settings(file=file, environ=environ, flags=flags)


def refusal(environ: Mapping[str, str], file: Path | None = None) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load(environ, file)
    return str(caught.value).splitlines()


def value_of(loaded: Loaded, key: Key) -> object:
    return getattr(getattr(loaded.settings, key.section), key.content_of)


def test_each_secret_has_a_file_and_nothing_else_has() -> None:
    secrets = {key.dotted for key in SCHEMA.plain_keys() if key.holds_secret}
    assert secrets == {*SHORT_VARIABLES, "server.engine"}
    assert set(FILE_KEYS) == {f"{dotted}_file" for dotted in secrets}
    assert FILE_KEYS["auth.secret_file"].variable == "GREENROOM_SECRET_FILE"
    assert FILE_KEYS["server.engine_file"].variable == "GREENROOM_SERVER__ENGINE_FILE"


@pytest.mark.parametrize("key", FILE_KEYS.values(), ids=FILE_KEYS)
@pytest.mark.parametrize("way", ["short variable", "long variable", "file"])
def test_a_secret_is_read_from_the_file_that_is_named(key: Key, way: str, folder: Path) -> None:
    secret = write(folder / "secret", f"\ufeff \t{SECRET}\r\n\n")
    config, environ = None, {}
    if way == "file":
        config = write(folder / "greenroom.toml", f"[{key.section}]\n{key.name} = '{secret}'\n")
    else:
        environ = {key.variable if way == "short variable" else key.long_variable: str(secret)}
    loaded = load(environ, config)
    assert value_of(loaded, key) == SECRET
    origin = f"{config}:2" if config else next(iter(environ))
    assert loaded.origins[f"{key.section}.{key.content_of}"] == f"{origin} ({secret})"
    assert SECRET not in repr(loaded)

    shown = render_settings(loaded)
    assert SECRET not in shown
    assert f'# {key.content_of} = "***"  # set, not shown; {origin} ({secret})' in shown
    assert tomllib.loads(shown)[key.section][key.name] == str(secret)
    again = load({}, write(folder / "shown.toml", shown))
    assert again.settings == loaded.settings


@given(
    secret=st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1),
    before=st.text(" \t\r\n"),
    after=st.text(" \t\r\n"),
)
def test_white_space_around_a_secret_is_dropped_and_nothing_else(
    secret: str, before: str, after: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = write(tmp_path_factory.mktemp("secrets") / "secret", before + secret + after)
    assert read_secret(file) == secret


def test_a_later_source_wins_over_an_earlier_one_whichever_gives_a_file(folder: Path) -> None:
    file = write(folder / "secret", SECRET)
    none = folder / "none"
    named = write(folder / "a.toml", f"[auth]\nsecret_file = '{none}'\n")
    valued = write(folder / "b.toml", "[auth]\nsecret = 'from the file'\n")
    # The file that is overridden is not read: there is none.
    assert load({"GREENROOM_SECRET": "from a variable"}, named).settings.auth.secret == "from a variable"
    assert load({"GREENROOM_SECRET_FILE": str(file)}, named).settings.auth.secret == SECRET
    assert load({"GREENROOM_SECRET_FILE": str(file)}, valued).settings.auth.secret == SECRET
    flags = {"server.engine": "memory://"}
    environ = {"GREENROOM_SERVER__ENGINE_FILE": str(none)}
    assert load_settings(file=None, environ=environ, flags=flags).settings.server.engine == "memory://"


def test_one_source_gives_a_secret_or_its_file(folder: Path) -> None:
    file = write(folder / "secret", SECRET)
    both = {"GREENROOM_API_KEY": SECRET[::-1], "GREENROOM_API_KEY_FILE": str(file)}
    assert refusal(both) == [
        "GREENROOM_API_KEY: http.api_key: GREENROOM_API_KEY_FILE names a file for it as well: keep one of them"
    ]
    # As a compose file leaves a variable that is not set.
    assert load(both | {"GREENROOM_API_KEY": ""}).settings.http.api_key == SECRET
    config = write(folder / "a.toml", f"[auth]\nsecret = 's'\nsecret_file = '{file}'\n")
    [line] = refusal({}, config)
    assert line.startswith(f"{config}:2: auth.secret: {config}:3 names a file")


def fifo(path: Path) -> None:
    os.mkfifo(path, 0o400)


UNUSABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "cannot be read: No such file or directory"),
    "a loop of links": (lambda path: path.symlink_to(path), "cannot be read: Too many levels of symbolic links"),
    "a folder": (lambda path: path.mkdir(), "is a folder; a secret is read at each start and reload, so it must be a file"),
    "a pipe": (fifo, "is no regular file; a secret is read at each start and reload, so it must be a file"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "is no regular file; a secret is read at each start and reload, so it must be a file"),
    "empty": (lambda path: write(path, ""), "is empty"),
    "blank": (lambda path: write(path, " \r\n\t\n"), "is empty"),
    "only a byte order mark": (lambda path: write(path, "\ufeff"), "is empty"),
    "no text": (lambda path: write(path, SECRET.encode() + b"\xff"), "must be UTF-8 (byte 32 is not)"),
    "large": (lambda path: write(path, SECRET * (MAX_SECRET_BYTES // 32 + 1)), "is larger than 64 KiB, which no secret is"),
    "readable by all": (lambda path: write(path, SECRET, 0o604), "is readable by every user (mode 0604): chmod 0400 it"),
    "writable by all": (lambda path: write(path, SECRET, 0o602), "is writable by every user (mode 0602): chmod 0400 it"),
}  # fmt: skip


@pytest.mark.parametrize("case", UNUSABLE)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(case: str, folder: Path) -> None:
    make, told = UNUSABLE[case]
    path = folder / "secret"
    make(path)
    lines = refusal({"GREENROOM_SECRET_FILE": str(path)})
    assert lines == [f"GREENROOM_SECRET_FILE: auth.secret_file: {path} {told}"]
    assert SECRET not in lines[0]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_refused(folder: Path) -> None:
    path = write(folder / "secret", SECRET, 0o200)
    [line] = refusal({"GREENROOM_SECRET_FILE": str(path)})
    assert line.endswith(f"{path} cannot be read: Permission denied")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize(("mode", "is_good"), [(0o444, True), (0o644, True), (0o640, True), (0o646, False)])
def test_what_docker_and_kubernetes_mount_for_another_user_is_read(
    mode: int, is_good: bool, folder: Path
) -> None:
    path = write(folder / "secret", SECRET, mode)
    os.chown(path, 12345, 12345)
    if is_good:
        assert read_secret(path) == SECRET
    else:
        with pytest.raises(ConfigurationError, match="writable by every user"):
            read_secret(path)


@pytest.mark.parametrize("mode", [0o400, 0o440, 0o600, 0o640, 0o660])
def test_a_file_of_ones_own_may_be_open_to_its_group(mode: int, folder: Path) -> None:
    assert read_secret(write(folder / "secret", SECRET, mode)) == SECRET


@pytest.mark.parametrize("pasted", [SECRET, f"/{SECRET}", f"./{SECRET}", f"{SECRET}/{SECRET}", f"{SECRET}\0"])
@pytest.mark.parametrize("key", FILE_KEYS.values(), ids=FILE_KEYS)
def test_a_secret_in_the_place_of_a_files_name_is_not_shown(key: Key, pasted: str) -> None:
    [line] = refusal({key.variable: pasted})
    assert line.startswith(f"{key.variable}: {key.dotted}: ")
    assert SECRET not in line


def test_all_problems_of_files_are_told_together(folder: Path) -> None:
    names = {"GREENROOM_SECRET_FILE": "a", "GREENROOM_API_KEY_FILE": "b"}
    lines = refusal({variable: str(folder / name) for variable, name in names.items()})
    assert [line.partition(":")[0] for line in lines] == sorted(names)


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [
        ("GREENROOM_SECRET_FIL", "GREENROOM_SECRET_FILE"),
        ("GREENROOM_API_KEYFILE", "GREENROOM_API_KEY_FILE"),
        ("GREENROOM_REDIS_PASSWORDS", "GREENROOM_REDIS_PASSWORD"),
    ],
)
def test_a_slip_in_the_name_of_such_a_variable_is_told(variable: str, nearest: str) -> None:
    [line] = refusal({variable: "/run/secrets/x"})
    assert line.startswith(f"{variable}: no such variable; the nearest known is {nearest} ")
