"""The file of the secrets that `--dev` made up."""

import os
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from broker.config.check import check_settings
from broker.config.dev import with_dev_secrets
from broker.config.dev_file import NotKeptError, default_dev_file, keep_dev_secrets, make_dev_secrets
from broker.config.load import load_settings
from broker.errors import ConfigurationError


def test_secrets_outlive_a_restart_in_a_file_for_its_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "dev.env"
    mask = os.umask(0)
    try:
        first = keep_dev_secrets(file)
    finally:
        os.umask(mask)
    assert keep_dev_secrets(file) == first
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]
    loaded = with_dev_secrets(load_settings(file=None, environ={}, flags={}), first)
    assert check_settings(loaded.settings, dev=False, engine_schemes={"memory"}) == []


def test_a_shell_can_read_it(tmp_path: Path) -> None:
    made = keep_dev_secrets(tmp_path / "dev.env")
    script = ". ./dev.env; sh -c 'echo \"$GREENROOM_SECRET $GREENROOM_API_KEY\"'"
    said = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert said.stdout == f"{made.secret} {made.api_key}\n"


def test_processes_that_start_together_have_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: keep_dev_secrets(tmp_path / "dev.env"), range(32)))
    assert len({made.secret for made in found}) == 1


def test_a_reader_writes_it_as_an_env_file(tmp_path: Path) -> None:
    file = tmp_path / "dev.env"
    file.write_text("GREENROOM_API_KEY=two\r\n\n# mine\nOTHER=x\nGREENROOM_SECRET=one\n")
    file.chmod(0o600)
    assert (keep_dev_secrets(file).secret, keep_dev_secrets(file).api_key) == ("one", "two")


@pytest.mark.parametrize(
    ("mode", "text", "told"),
    [
        (0o640, None, "is open to other users"),
        (0o604, None, "is open to other users"),
        (0o600, "", "has no GREENROOM_SECRET and no GREENROOM_API_KEY"),
        (0o600, "export GREENROOM_SECRET=one\n", "has no GREENROOM_API_KEY: remove it"),
        (0o600, "GREENROOM_SECRET=\nGREENROOM_API_KEY=a b\n", "has no GREENROOM_SECRET"),
        (0o600, "\0\xff" * 9000, "has no GREENROOM_SECRET"),
    ],
)
def test_a_file_that_cannot_be_trusted_is_named_and_not_shown(
    tmp_path: Path, mode: int, text: str | None, told: str
) -> None:
    file = tmp_path / "dev.env"
    made = keep_dev_secrets(file)
    if text is not None:
        file.write_text(text)
    file.chmod(mode)
    with pytest.raises(ConfigurationError, match=told) as caught:
        keep_dev_secrets(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert made.secret not in str(caught.value)


def test_what_is_no_file_is_refused_without_a_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for place in (tmp_path / "pipe", tmp_path, Path("/dev/null"), tmp_path / "pipe" / "below"):
        with pytest.raises(ConfigurationError, match=str(place)):
            keep_dev_secrets(place)


def test_a_folder_that_takes_no_file_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(NotKeptError, match=r"cannot be made: No such file or directory"):
        keep_dev_secrets(tmp_path / "missing" / "dev.env")
    with pytest.raises(ConfigurationError, match=r"null (byte|character)"):
        keep_dev_secrets(tmp_path / "a\0b")
    assert make_dev_secrets() != make_dev_secrets()


def test_outside_of_an_environment_there_is_no_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.base_prefix", "/usr")
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    assert default_dev_file() == tmp_path / "greenroom-dev.env"
    monkeypatch.setattr("sys.base_prefix", str(tmp_path))
    assert default_dev_file() is None
    (tmp_path / "conda-meta").mkdir()
    assert default_dev_file() == tmp_path / "greenroom-dev.env"
