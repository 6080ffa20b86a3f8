"""Known attacks on JSON Web Tokens (RFC 8725 section 2)."""

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

from broker.auth.tokens import TokenVerifier, open_verifier
from broker.config.settings import AuthSettings
from broker.errors import CloseCode, Disconnect
from tests.support.secrets import SECRET

CLAIMS = {"sub": "root"}


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def pem_file(tmp_path: Path, rsa_key: rsa.RSAPrivateKey) -> Path:
    file = tmp_path / "public.pem"
    file.write_bytes(rsa_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return file


@pytest.fixture
def jwks_file(tmp_path: Path, rsa_key: rsa.RSAPrivateKey) -> Path:
    public = RSAAlgorithm.to_jwk(rsa_key.public_key(), as_dict=True) | {"kid": "one"}
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps({"keys": [public]}))
    return file


def verifier(**settings: Any) -> TokenVerifier:
    return open_verifier(AuthSettings(**settings), wall_clock=lambda: 0.0)


def refusal(verifier: TokenVerifier, token: str) -> str:
    with pytest.raises(Disconnect) as caught:
        verifier.verify(token)
    assert caught.value.code is CloseCode.UNAUTHORIZED
    return caught.value.reason


def encode(part: object) -> str:
    return encode_bytes(json.dumps(part).encode())


def encode_bytes(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def hmac_signed(header: dict[str, Any], key: bytes) -> str:
    """Sign as an attacker does, with anything for a key: PyJWT would not."""
    message = f"{encode(header)}.{encode(CLAIMS)}"
    return f"{message}.{encode_bytes(hmac.digest(key, message.encode(), hashlib.sha256))}"


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", None, 0, ["HS256"], {"HS256": 1}, "hs256"])
def test_an_algorithm_that_verifies_nothing(algorithm: object) -> None:
    for signature in ("", "AAAA"):
        token = f"{encode({'alg': algorithm})}.{encode(CLAIMS)}.{signature}"
        assert refusal(verifier(secret=SECRET), token) == "token algorithm is not allowed here"


def test_no_algorithm_at_all() -> None:
    token = f"{encode({'typ': 'JWT'})}.{encode(CLAIMS)}.AAAA"
    assert refusal(verifier(secret=SECRET), token) == "token algorithm is not allowed here"


def test_the_public_key_as_the_secret_of_a_symmetric_algorithm(pem_file: Path) -> None:
    token = hmac_signed({"alg": "HS256"}, pem_file.read_bytes())
    only_rsa = verifier(algorithms=("RS256",), public_key_file=str(pem_file))
    assert refusal(only_rsa, token) == "token algorithm is not allowed here"
    both = verifier(secret=SECRET, algorithms=("HS256", "RS256"), public_key_file=str(pem_file))
    assert refusal(both, token) == "token signature is wrong"


@pytest.mark.parametrize("kid", ["one", None])
def test_the_key_set_as_the_secret_of_a_symmetric_algorithm(jwks_file: Path, kid: str | None) -> None:
    header = {"alg": "HS256"} | ({"kid": kid} if kid else {})
    both = verifier(secret=SECRET, algorithms=("HS256", "RS256"), jwks_file=str(jwks_file))
    assert refusal(both, hmac_signed(header, jwks_file.read_bytes())) == "token signature is wrong"


@pytest.mark.parametrize("kid", ["../../../../dev/null", "two", "", "' OR 1=1 --", "one\0"])
def test_a_kid_that_points_elsewhere(jwks_file: Path, rsa_key: rsa.RSAPrivateKey, kid: str) -> None:
    token = jwt.encode(CLAIMS, rsa_key, algorithm="RS256", headers={"kid": kid})
    checking = verifier(algorithms=("RS256",), jwks_file=str(jwks_file))
    assert refusal(checking, token) == "token header names an unknown key (kid)"


def test_a_kid_that_is_no_text(jwks_file: Path) -> None:
    token = f"{encode({'alg': 'RS256', 'kid': ['one']})}.{encode(CLAIMS)}.AAAA"
    assert refusal(verifier(algorithms=("RS256",), jwks_file=str(jwks_file)), token) == "token is malformed"


@pytest.mark.parametrize("settings", ["jwks_file", "public_key_file"])
def test_a_key_that_the_token_brings_along(
    request: pytest.FixtureRequest, settings: str, rsa_key: rsa.RSAPrivateKey
) -> None:
    file = request.getfixturevalue("jwks_file" if settings == "jwks_file" else "pem_file")
    checking = verifier(algorithms=("RS256",), **{settings: str(file)})
    attacker = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    headers = {
        "jwk": RSAAlgorithm.to_jwk(attacker.public_key(), as_dict=True),
        "jku": "https://evil.example/jwks.json",
        "x5u": "https://evil.example/cert.pem",
        "kid": "one",
    }
    forged = jwt.encode(CLAIMS, attacker, algorithm="RS256", headers=headers)
    assert refusal(checking, forged) == "token signature is wrong"
    ours = jwt.encode(CLAIMS, rsa_key, algorithm="RS256", headers=headers)
    assert checking.verify(ours).user_id == "root"


@pytest.mark.parametrize("algorithm", ["RS384", "RS512", "PS256"])
def test_another_rsa_algorithm_than_configured(
    pem_file: Path, rsa_key: rsa.RSAPrivateKey, algorithm: str
) -> None:
    checking = verifier(algorithms=("RS256",), public_key_file=str(pem_file))
    token = jwt.encode(CLAIMS, rsa_key, algorithm=algorithm)
    assert refusal(checking, token) == "token algorithm is not allowed here"


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_another_hash_than_configured(algorithm: str) -> None:
    long_secret = SECRET * 2
    token = jwt.encode(CLAIMS, long_secret, algorithm=algorithm)
    assert refusal(verifier(secret=long_secret), token) == "token algorithm is not allowed here"


def test_a_header_changed_to_another_allowed_algorithm(pem_file: Path, rsa_key: rsa.RSAPrivateKey) -> None:
    checking = verifier(algorithms=("RS256", "RS512"), public_key_file=str(pem_file))
    _, payload, signature = jwt.encode(CLAIMS, rsa_key, algorithm="RS256").split(".")
    forged = f"{encode({'alg': 'RS512'})}.{payload}.{signature}"
    assert refusal(checking, forged) == "token signature is wrong"


def test_a_zero_signature_of_an_elliptic_curve(tmp_path: Path) -> None:
    # CVE-2022-21449: r = s = 0 once verified under Java.
    file = tmp_path / "public.pem"
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    file.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    token = f"{encode({'alg': 'ES256'})}.{encode(CLAIMS)}.{encode_bytes(bytes(64))}"
    checking = verifier(algorithms=("ES256",), public_key_file=str(file))
    assert refusal(checking, token) == "token signature is wrong"


@pytest.mark.parametrize("critical", [["http://example.com/ext"], ["b64"], ["exp"], [], "exp", None])
def test_an_extension_marked_critical_is_refused(critical: object) -> None:
    token = hmac_signed({"alg": "HS256", "crit": critical, "b64": True, "exp": 1}, SECRET.encode())
    assert refusal(verifier(secret=SECRET), token) in {
        "token header asks for an extension (crit)",
        "token is malformed",
    }


def test_an_unencoded_payload_is_refused() -> None:
    # RFC 7797: the signature is over the payload as it stands, which is not in the token.
    message = f"{encode({'alg': 'HS256', 'b64': False})}."
    signature = hmac.digest(SECRET.encode(), message.encode() + json.dumps(CLAIMS).encode(), "sha256")
    assert refusal(verifier(secret=SECRET), f"{message}.{encode_bytes(signature)}") == "token is malformed"


def test_an_encrypted_token_is_refused() -> None:
    token = f"{encode({'alg': 'dir', 'enc': 'A256GCM'})}.AAAA.AAAA.AAAA.AAAA"
    assert refusal(verifier(secret=SECRET), token) in {
        "token algorithm is not allowed here",
        "token is malformed",
    }
