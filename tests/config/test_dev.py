"""The settings that `--dev` generates, and those that it leaves unchanged."""

from collections.abc import Mapping

from broker.config.check import check_settings
from broker.config.dev import lacks_secrets, with_dev_secrets
from broker.config.dev_file import make_dev_secrets
from broker.config.load import Loaded, load_settings


def dev(environ: Mapping[str, str]) -> Loaded:
    return with_dev_secrets(load_settings(file=None, environ=environ, flags={}), make_dev_secrets())


def test_missing_secrets_are_filled_in() -> None:
    first, second = dev({}), dev({})
    assert check_settings(first.settings, dev=False, engine_schemes={"memory"}) == []
    assert first.settings.auth.secret != second.settings.auth.secret
    assert first.settings.http.api_key != second.settings.http.api_key
    assert first.settings.http.api_key != first.settings.auth.secret
    assert first.origins["auth.secret"] == first.origins["http.api_key"] == "--dev"


def test_given_secrets_stay() -> None:
    loaded = dev({"GREENROOM_SECRET": "mine", "GREENROOM_API_KEY": "also mine"})
    assert not lacks_secrets(loaded)
    assert (loaded.settings.auth.secret, loaded.settings.http.api_key) == ("mine", "also mine")
    assert loaded.origins["auth.secret"] == "GREENROOM_SECRET"


def test_an_empty_secret_is_a_missing_one() -> None:
    settings = dev({"GREENROOM_SECRET": "", "GREENROOM_API_KEY": ""}).settings
    assert settings.auth.secret
    assert settings.http.api_key


def test_no_secret_is_made_up_where_none_is_used() -> None:
    loaded = dev({"GREENROOM_AUTH__ALGORITHMS": "RS256", "GREENROOM_AUTH__JWKS_FILE": "keys.json"})
    assert loaded.settings.auth.secret is None
    assert loaded.origins["auth.secret"] == "default"
    assert not lacks_secrets(loaded)


def test_the_drain_is_short_unless_someone_set_it() -> None:
    assert dev({}).settings.server.drain_seconds == 0.5
    assert dev({}).origins["server.drain_seconds"] == "--dev"
    assert dev({"GREENROOM_SERVER__DRAIN_SECONDS": "10"}).settings.server.drain_seconds == 10.0


def test_all_else_stays() -> None:
    loaded = dev({"GREENROOM_SERVER__PORT": "1", "GREENROOM_LIMITS__TEXT_CHARACTERS": "7"})
    assert loaded.settings.server.port == 1
    assert loaded.settings.limits.text_characters == 7
    assert loaded.origins["server.port"] == "GREENROOM_SERVER__PORT"
