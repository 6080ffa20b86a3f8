"""What a person who starts a server with `--dev` is told."""

from pathlib import Path

from broker.cli.notes import dev_notes
from broker.config.dev import with_dev_secrets
from broker.config.load import Loaded, load_settings

ADDRESS = "http://127.0.0.1:8000"


def dev(**environ: str) -> Loaded:
    return with_dev_secrets(load_settings(file=None, environ=environ, flags={}))


def test_all_that_was_made_up_is_told_with_how_to_use_it() -> None:
    loaded = dev()
    secret, api_key = loaded.settings.auth.secret, loaded.settings.http.api_key
    assert dev_notes(loaded, ADDRESS, config_file=None).splitlines() == [
        "Listening on:  http://127.0.0.1:8000",
        f"Secret:        {secret}",
        f"API key:       {api_key}",
        f"Make a token:  GREENROOM_SECRET={secret} greenroom token --user alice",
        f"Console:       http://127.0.0.1:8000/#key={api_key}",
    ]


def test_secrets_that_were_given_are_not_repeated() -> None:
    loaded = dev(GREENROOM_SECRET="hunter2", GREENROOM_API_KEY="hunter3")
    notes = dev_notes(loaded, ADDRESS, config_file=Path("my file.toml"))
    assert "hunter" not in notes
    assert "Secret:        as set by GREENROOM_SECRET" in notes
    assert "greenroom token --user alice --config 'my file.toml'\n" in notes
    assert notes.endswith("Console:       http://127.0.0.1:8000/")


def test_a_server_that_can_make_no_token_shows_none() -> None:
    loaded = dev(GREENROOM_AUTH__ALGORITHMS="RS256", GREENROOM_AUTH__JWKS_FILE="keys.json")
    notes = dev_notes(loaded, ADDRESS, config_file=None)
    assert "Secret:        not set" in notes
    assert "token" not in notes
    assert f"/#key={loaded.settings.http.api_key}" in notes
