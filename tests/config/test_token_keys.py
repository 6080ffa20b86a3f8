"""The settings that name the keys of tokens, checked together."""

import pytest

from broker.auth.keys import key_source, load_all_keys, load_keys
from broker.config.check import check_settings
from broker.config.load import load_settings
from broker.config.render import render_settings
from broker.config.settings import AuthSettings, HttpSettings, IssuerSettings, Settings
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


ISSUER = {"issuer": "https://issuer.example/", "jwks_url": URL}
ENTRY_FLAWS = {
    "the same twice": ([ISSUER, ISSUER], {}, "auth.issuers[1].issuer: is an issuer twice"),
    "that of auth": (
        [ISSUER],
        {"issuer": "https://issuer.example/"},
        "auth.issuers[0].issuer: is an issuer twice",
    ),
    "no keys": ([{"issuer": "a"}], {}, "auth.issuers[0].algorithms: RS256 needs"),
    "a secret that nothing uses": (
        [{**ISSUER, "secret": SECRET}],
        {},
        "auth.issuers[0].secret: no algorithm",
    ),
    "no secret": ([{"issuer": "a", "algorithms": ("HS256",)}], {}, "auth.issuers[0].secret: missing"),
    "a weak secret": (
        [{"issuer": "a", "algorithms": ("HS256",), "secret": "hunter2"}],
        {},
        "auth.issuers[0].secret: too short",
    ),
    "a plain address": (
        [{"issuer": "http://issuer.example", "discovery": True}],
        {},
        "auth.issuers[0].issuer: must begin with https://",
    ),
}


@pytest.mark.parametrize(("entries", "auth", "message"), ENTRY_FLAWS.values(), ids=ENTRY_FLAWS)
def test_an_issuer_that_cannot_be_meant_is_told(entries, auth, message):
    issuers = tuple(IssuerSettings(**entry) for entry in entries)
    (problem,) = problems(secret=SECRET, issuers=issuers, **auth)
    assert problem.startswith(message)
    assert "hunter2" not in problem


def test_with_issuers_the_application_needs_no_secret_of_its_own():
    issuers = (IssuerSettings(**ISSUER),)
    assert problems(issuers=issuers) == []
    assert problems(issuers=issuers, secret=SECRET) == []
    (missing,) = problems()
    assert missing.startswith("auth.secret: missing")


def test_files_of_an_issuer_are_named_with_their_table():
    entry = IssuerSettings(issuer="a", jwks_file="/nowhere.json")
    with pytest.raises(
        ConfigurationError, match=r"^auth\.issuers\[0\]\.jwks_file /nowhere\.json: cannot be read"
    ):
        load_all_keys(AuthSettings(issuers=(entry,)))


def test_an_issuer_in_the_file_shows_no_secret(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o400)
    file = tmp_path / "greenroom.toml"
    file.write_text(
        f'[[auth.issuers]]\nissuer = "https://a.example"\nalgorithms = ["HS256"]\nsecret_file = "{secret}"\n'
        f'[[auth.issuers]]\nissuer = "https://b.example/"\ndiscovery = true\nauthorized_parties = ["x"]\n'
    )
    loaded = load_settings(file=file, environ={"GREENROOM_API_KEY": API_KEY}, flags={})
    assert [entry.secret for entry in loaded.settings.auth.issuers] == [SECRET, None]
    assert check_settings(loaded.settings, dev=False, engine_schemes=["memory"]) == []
    shown = render_settings(loaded)
    assert SECRET not in shown
    assert SECRET not in repr(loaded.settings)
    file.write_text(shown)
    again = load_settings(file=file, environ={"GREENROOM_API_KEY": API_KEY}, flags={})
    assert again.settings == loaded.settings
