"""Checks over several settings before a server starts."""

import base64
import secrets

import pytest

from broker.config.check import HOW_TO_MAKE_ONE, check_settings, weakness
from broker.config.problems import Problem, refuse
from broker.config.settings import AuthSettings, HttpSettings, ServerSettings, Settings
from broker.errors import ConfigurationError
from tests.support.secrets import API_KEY, SECRET


def problems(
    *,
    auth: AuthSettings | None = None,
    api_key: str | None = API_KEY,
    engine: str = "memory://",
    dev: bool = False,
) -> list[Problem]:
    settings = Settings(
        auth=auth or AuthSettings(secret=SECRET),
        http=HttpSettings(api_key=api_key),
        server=ServerSettings(engine=engine),
    )
    return check_settings(settings, dev=dev, engine_schemes={"memory", "sqlite"})


def test_good_settings_have_no_problem() -> None:
    assert problems() == []


def test_missing_secrets_are_named_with_a_way_to_make_them() -> None:
    secret, api_key = problems(auth=AuthSettings(), api_key=None)
    assert str(secret).startswith("auth.secret: missing; set GREENROOM_SECRET to at least 32 random bytes")
    assert str(api_key).startswith("http.api_key: missing; set GREENROOM_API_KEY to at least 16 random bytes")
    assert HOW_TO_MAKE_ONE in secret.message
    assert HOW_TO_MAKE_ONE in api_key.message


def test_dev_asks_for_no_secrets() -> None:
    assert problems(auth=AuthSettings(), api_key=None, dev=True) == []


@pytest.mark.parametrize(
    ("secret", "why"),
    [
        ("", "missing"),
        (SECRET[:-1], "too short: 31 of 32 bytes"),
        ("é" * 15, "too short: 30 of 32 bytes"),
        ("a" * 64, "too weak: only 1 different bytes"),
        ("secret" * 8, "too weak: only 5 different bytes"),
        ("0123456789abcdef" * 2, "too weak: one piece repeated"),
    ],
)
def test_a_secret_that_can_be_guessed_is_refused(secret: str, why: str) -> None:
    [problem] = problems(auth=AuthSettings(secret=secret))
    assert problem.message.startswith(f"{why}; set GREENROOM_SECRET")
    assert secret == "" or secret not in problem.message


@pytest.mark.parametrize(("api_key", "why"), [("k7Qx2mWv9RbTz4L", "too short"), ("a" * 16, "too weak")])
def test_an_api_key_that_can_be_guessed_is_refused(api_key: str, why: str) -> None:
    [problem] = problems(api_key=api_key)
    assert problem.message.startswith(why)


def test_a_longer_hash_wants_a_longer_secret() -> None:
    auth = AuthSettings(secret=SECRET, algorithms=("HS256", "HS512"))
    assert problems(auth=auth)[0].message.startswith("too short: 32 of 64 bytes")
    assert problems(auth=AuthSettings(secret=SECRET + SECRET[::-1], algorithms=("HS256", "HS512"))) == []


def test_what_we_tell_people_to_run_makes_good_secrets() -> None:
    for _ in range(200):
        assert weakness(secrets.token_urlsafe(48), least=64) is None
        assert weakness(base64.b64encode(secrets.token_bytes(48)).decode(), least=64) is None


def test_the_origin_of_a_bad_value_is_named() -> None:
    [problem] = check_settings(
        Settings(auth=AuthSettings(secret="x"), http=HttpSettings(api_key=API_KEY)),
        dev=False,
        engine_schemes={"memory"},
        origins={"auth.secret": "greenroom.toml:4", "http.api_key": "default"},
    )
    assert problem.place == "greenroom.toml:4: auth.secret"


def test_public_key_algorithms_need_a_key_and_no_secret() -> None:
    [problem] = problems(auth=AuthSettings(algorithms=("ES256",)))
    assert (
        str(problem)
        == "auth.algorithms: ES256 needs auth.public_key_file, auth.jwks_file, auth.jwks_url or auth.discovery"
    )
    assert problems(auth=AuthSettings(algorithms=("ES256",), public_key_file="key.pem")) == []
    assert problems(auth=AuthSettings(algorithms=("EdDSA", "RS256"), jwks_file="keys.json")) == []


def test_secret_and_public_key_algorithms_are_never_accepted_together() -> None:
    auth = AuthSettings(secret=SECRET, algorithms=("HS256", "RS256"), public_key_file="key.pem")
    [problem] = problems(auth=auth)
    assert problem.place == "auth.algorithms"
    assert "RS256 and HS256 together" in problem.message
    assert "RFC 8725" in problem.message


@pytest.mark.parametrize("setting", ["public_key_file", "jwks_file"])
def test_a_key_file_that_no_algorithm_uses_is_refused(setting: str) -> None:
    [problem] = problems(auth=AuthSettings(secret=SECRET, **{setting: "key"}))
    assert problem.place == f"auth.{setting}"
    assert "no algorithm uses it" in problem.message


@pytest.mark.parametrize("dev", [True, False])
def test_an_engine_that_is_not_built_is_refused_with_those_that_are(dev: bool) -> None:
    assert problems(engine="sqlite:///x.db", dev=dev) == []
    [problem] = problems(engine="redis://:hunter2@host", dev=dev)
    assert str(problem) == "server.engine: must begin with one of memory://, sqlite://; got redis://"
    [problem] = problems(engine="memory", dev=dev)
    assert str(problem).endswith("got a value without ://")


def test_refuse_tells_every_problem_in_order() -> None:
    refuse([])
    with pytest.raises(ConfigurationError, match=r"^b: 1\na: 2$"):
        refuse([Problem("b", "1"), Problem("a", "2")])


@pytest.mark.parametrize(
    ("metrics_key", "is_refused"), [(None, False), (API_KEY, False), ("", True), ("x", True)]
)
def test_a_key_for_metrics_is_optional_but_none_that_can_be_guessed(
    metrics_key: str | None, is_refused: bool
) -> None:
    http = HttpSettings(api_key=API_KEY, metrics_key=metrics_key)
    settings = Settings(auth=AuthSettings(secret=SECRET), http=http)
    assert bool(check_settings(settings, dev=False, engine_schemes={"memory"})) is is_refused
    assert API_KEY not in repr(http)
