"""The settings that name the keys of tokens, checked together."""

import pytest

from broker.auth.keys import key_source, load_keys
from broker.config.check import check_settings
from broker.config.settings import AuthSettings, HttpSettings, Settings
from broker.errors import ConfigurationError
from tests.support.secrets import API_KEY, SECRET

URL = "https://issuer.example/keys"


def problems(**auth):
    settings = Settings(auth=AuthSettings(**auth), http=HttpSettings(api_key=API_KEY))
    return [str(problem) for problem in check_settings(settings, dev=False, engine_schemes=["memory"])]


FETCHED = {
    "an address": {"jwks_url": URL},
    "discovery": {"issuer": "https://issuer.example/", "discovery": True},
    "a server of this machine": {"jwks_url": "http://127.0.0.1:8080/keys"},
}


@pytest.mark.parametrize("auth", FETCHED.values(), ids=FETCHED)
def test_keys_that_are_fetched_need_no_secret(auth):
    auth = {"algorithms": ("RS256", "ES256"), **auth}
    assert problems(**auth) == []
    settings = AuthSettings(**auth)
    assert load_keys(settings).keys == ()
    assert key_source(settings).algorithms == ("RS256", "ES256")


FLAWS = {
    "no algorithm": ({"jwks_url": URL, "secret": SECRET}, "auth.jwks_url: no algorithm uses it"),
    "a secret as well": (
        {"jwks_url": URL, "secret": SECRET, "algorithms": ("HS256", "RS256")},
        "auth.algorithms: RS256 and HS256 together",
    ),
    "no key": ({"algorithms": ("RS256",)}, "auth.algorithms: RS256 needs auth.public_key_file"),
    "a plain address": (
        {"jwks_url": "http://issuer.example/keys"},
        "auth.jwks_url: must begin with https://",
    ),
    "a password": ({"jwks_url": "https://a:hunter2@issuer.example/"}, "auth.jwks_url: holds a user"),
    "no issuer": ({"discovery": True}, "auth.discovery: needs auth.issuer"),
    "an issuer that is no address": (
        {"discovery": True, "issuer": "shop"},
        "auth.issuer: must be an address",
    ),
}


@pytest.mark.parametrize(("auth", "message"), FLAWS.values(), ids=FLAWS)
def test_what_does_not_fit_is_told(auth, message):
    (problem,) = problems(**({"algorithms": ("RS256",)} if "secret" not in auth else {}) | auth)
    assert problem.startswith(message)
    assert "hunter2" not in problem


def test_one_place_has_the_keys():
    settings = AuthSettings(algorithms=("RS256",), jwks_url=URL, jwks_file="/keys.json")
    with pytest.raises(
        ConfigurationError, match=r"jwks_file and auth\.jwks_url are both set: use one of them"
    ):
        load_keys(settings)
