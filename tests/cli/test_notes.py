"""The notes for a person who starts a server with `--dev`."""

import sys
from pathlib import Path

import pytest

from broker.cli.notes import dev_notes, shell_name
from broker.config.dev import with_dev_secrets
from broker.config.dev_file import make_dev_secrets
from broker.config.load import Loaded, load_settings

ADDRESS = "http://127.0.0.1:8000"


def dev(**environ: str) -> Loaded:
    return with_dev_secrets(load_settings(file=None, environ=environ, flags={}), make_dev_secrets())


def test_all_that_was_made_up_is_told_with_how_to_use_it() -> None:
    loaded = dev()
    secret, api_key = loaded.settings.auth.secret, loaded.settings.http.api_key
    notes = dev_notes(loaded, ADDRESS, kept="dev.env", config_file=None, program="greenroom")
    assert notes.splitlines() == [
        "Listening on:  http://127.0.0.1:8000",
        f"Secret:        {secret}",
        f"API key:       {api_key}",
        "Kept in:       dev.env",
        f"Make a token:  GREENROOM_SECRET={secret} greenroom token --user alice",
        f"Console:       http://127.0.0.1:8000/#key={api_key}",
    ]


def test_secrets_that_were_given_are_not_repeated() -> None:
    loaded = dev(GREENROOM_SECRET="hunter2", GREENROOM_API_KEY="hunter3")
    notes = dev_notes(
        loaded, ADDRESS, kept=None, config_file=Path("my file.toml"), program=".venv/bin/greenroom"
    )
    assert "hunter" not in notes
    assert "Secret:        as set by GREENROOM_SECRET" in notes
    assert " .venv/bin/greenroom token --user alice --config 'my file.toml'\n" in notes
    assert notes.endswith("Console:       http://127.0.0.1:8000/")


def test_a_server_that_can_make_no_token_shows_none() -> None:
    loaded = dev(GREENROOM_AUTH__ALGORITHMS="RS256", GREENROOM_AUTH__JWKS_FILE="keys.json")
    notes = dev_notes(loaded, ADDRESS, kept=None, config_file=None, program="greenroom")
    assert "Secret:        not set" in notes
    assert "token" not in notes
    assert f"/#key={loaded.settings.http.api_key}" in notes


def test_the_command_is_named_so_that_a_shell_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "my bin" / "greenroom"
    program.parent.mkdir()
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shell_name(str(program)) == f"'{program}'"
    monkeypatch.setenv("PATH", str(program.parent))
    assert shell_name(str(program)) == "greenroom"
    assert shell_name(".venv/bin/greenroom") == ".venv/bin/greenroom", "another is on the PATH"
    assert shell_name("/lib/broker/__main__.py") == f"{sys.executable} -m broker"
