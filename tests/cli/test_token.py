"""`greenroom token`: a token that any JWT library accepts."""

import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from click.testing import CliRunner, Result

from broker.cli import main
from tests.support.secrets import SECRET


def token(*arguments: str, **environ: str | None) -> Result:
    return CliRunner(env={"GREENROOM_SECRET": SECRET, "GREENROOM_CONFIG": None, **environ}).invoke(
        main, ["token", *arguments]
    )


def claims_of(result: Result, **options: Any) -> dict[str, Any]:
    assert result.exit_code == 0, result.stderr
    assert jwt.get_unverified_header(result.stdout.strip())["alg"] == "HS256"
    claims: dict[str, Any] = jwt.decode(result.stdout.strip(), SECRET, algorithms=["HS256"], **options)
    return claims


def test_a_token_names_its_user_and_its_end() -> None:
    now = time.time()
    claims = claims_of(token("--user", "ann"))
    assert set(claims) == {"sub", "iat", "exp"}
    assert claims["sub"] == "ann"
    assert now - 1 <= claims["iat"] <= now + 5
    assert now + 3600 <= claims["exp"] <= now + 3606


def test_a_token_has_the_requested_claims() -> None:
    claims = claims_of(
        token(
            "--user",
            "ann",
            "--room",
            "lobby",
            "--room",
            "team.*",
            "--can",
            "join",
            "--can",
            "chat",
            "--auto-join",
            "lobby",
            "--auto-join",
            "team.a",
            "--ttl",
            "5",
        )
    )
    assert claims["rooms"] == ["lobby", "team.*"]
    assert claims["can"] == ["join", "chat"]
    assert claims["auto_join"] == ["lobby", "team.a"]
    assert claims["exp"] - claims["iat"] in {5, 6}


def test_a_token_fits_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "greenroom.toml"
    file.write_text(f'[auth]\nsecret = "{SECRET}"\naudience = "rooms"\nissuer = "us"\n')
    for result in (
        token("--user", "ann", "--config", str(file), GREENROOM_SECRET=None),
        token("--user", "ann", GREENROOM_CONFIG=str(file), GREENROOM_SECRET=None),
    ):
        claims = claims_of(result, audience="rooms", issuer="us")
        assert (claims["aud"], claims["iss"]) == ("rooms", "us")


def test_without_a_secret_no_token_is_made() -> None:
    result = token("--user", "ann", GREENROOM_SECRET=None)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "greenroom: auth.secret: not set; put the server's secret into GREENROOM_SECRET\n"


def test_without_an_algorithm_for_it_no_token_is_made() -> None:
    result = token("--user", "ann", GREENROOM_AUTH__ALGORITHMS="RS256,ES256")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("greenroom: auth.algorithms: RS256, ES256 tokens are made by who holds")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--user", "x" * 129],
        ["--user", ""],
        ["--user", "ann", "--can", "fly"],
        ["--user", "ann", "--auto-join", "a/b"],
        ["--user", "ann", "--ttl", "0"],
        ["--user", "ann", "--ttl", "soon"],
        ["--user", "ann", "--ttl", "inf"],
    ],
)
def test_a_token_that_no_server_would_take_is_not_made(arguments: list[str]) -> None:
    result = token(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr
