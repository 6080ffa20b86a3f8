"""Keys are loaded or refused with a message that names the file and what is wrong."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from broker.auth.keys import KeyRing, load_keys
from broker.config.settings import Algorithm, AuthSettings
from broker.errors import ConfigurationError, Disconnect
from tests.support.secrets import SECRET

Write = Callable[[bytes | str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(content: bytes | str) -> str:
        file = tmp_path / "keys"
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(file)

    return write


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public_pem(private: Any) -> bytes:
    pem: bytes = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem


def jwk(private: Any, **members: Any) -> dict[str, Any]:
    """Return the public JWK of a key, with `members` set and those that are None taken out."""
    public = private.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        made = RSAAlgorithm.to_jwk(public, as_dict=True)
    elif isinstance(public, ec.EllipticCurvePublicKey):
        made = ECAlgorithm.to_jwk(public, as_dict=True)
    else:
        made = OKPAlgorithm.to_jwk(public, as_dict=True)
    return {name: value for name, value in (made | members).items() if value is not None}


def jwks(*keys: Any) -> str:
    return json.dumps({"keys": keys})


def pem_ring(file: str, *algorithms: Algorithm) -> KeyRing:
    return load_keys(AuthSettings(algorithms=algorithms, public_key_file=file))


def jwks_ring(file: str, *algorithms: Algorithm) -> KeyRing:
    return load_keys(AuthSettings(algorithms=algorithms, jwks_file=file))


def problem(settings: AuthSettings) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_keys(settings)
    return str(caught.value)


def jwks_problem(file: str, *algorithms: Algorithm) -> str:
    message = problem(AuthSettings(algorithms=algorithms, jwks_file=file))
    assert message.startswith(f"auth.jwks_file {file}: ")
    return message


def pem_problem(file: str, *algorithms: Algorithm) -> str:
    message = problem(AuthSettings(algorithms=algorithms, public_key_file=file))
    assert message.startswith(f"auth.public_key_file {file}: ")
    return message


# The secret


@pytest.mark.parametrize(("algorithm", "least_bytes"), [("HS256", 32), ("HS384", 48), ("HS512", 64)])
def test_a_secret_is_as_long_as_its_hash(algorithm: Algorithm, least_bytes: int) -> None:
    long_enough = AuthSettings(secret="é" * (least_bytes // 2), algorithms=(algorithm,))
    assert load_keys(long_enough).keys[0].algorithms == (algorithm,)
    too_short = AuthSettings(secret="x" * (least_bytes - 1), algorithms=(algorithm,))
    message = problem(too_short)
    assert f"has {least_bytes - 1} bytes" in message
    assert f"at least {least_bytes}" in message
    assert f"token_hex({least_bytes})" in message


def test_the_most_demanding_algorithm_decides_how_long_a_secret_must_be() -> None:
    assert "HS512 needs" in problem(AuthSettings(secret="x" * 48, algorithms=("HS256", "HS512")))


@pytest.mark.parametrize("secret", [None, ""])
def test_a_missing_secret_is_named_with_its_variable(secret: str | None) -> None:
    message = problem(AuthSettings(secret=secret))
    assert "GREENROOM_SECRET" in message
    assert "missing" in message
    assert "token_hex(32)" in message


def test_a_secret_of_broken_text_is_refused() -> None:
    assert "UTF-8" in problem(AuthSettings(secret="\udcff" * 32))


def test_a_public_key_is_no_secret(rsa_key: rsa.RSAPrivateKey) -> None:
    message = problem(AuthSettings(secret=public_pem(rsa_key).decode()))
    assert "auth.public_key_file" in message


def test_no_key_shows_in_a_repr() -> None:
    ring = load_keys(AuthSettings(secret=SECRET))
    assert SECRET not in repr(ring)


# PEM files


@pytest.mark.parametrize(
    ("make", "algorithm"),
    [
        (lambda: ec.generate_private_key(ec.SECP256R1()), "ES256"),
        (lambda: ec.generate_private_key(ec.SECP384R1()), "ES384"),
        (lambda: ec.generate_private_key(ec.SECP521R1()), "ES512"),
        (ed25519.Ed25519PrivateKey.generate, "EdDSA"),
        (ed448.Ed448PrivateKey.generate, "EdDSA"),
    ],
)
def test_a_public_key_serves_the_algorithm_of_its_type(
    write: Write, make: Callable[[], Any], algorithm: Algorithm
) -> None:
    private = make()
    assert pem_ring(write(public_pem(private)), algorithm).keys[0].algorithms == (algorithm,)
    assert jwks_ring(write(jwks(jwk(private))), algorithm).keys[0].algorithms == (algorithm,)


def test_an_rsa_key_serves_the_rs_algorithms_that_are_configured(
    write: Write, rsa_key: rsa.RSAPrivateKey
) -> None:
    for ring in (
        pem_ring(write(public_pem(rsa_key)), "RS512", "RS256"),
        jwks_ring(write(jwks(jwk(rsa_key))), "RS512", "RS256"),
    ):
        assert ring.keys[0].algorithms == ("RS512", "RS256")


def test_a_pkcs1_key_is_read_too(write: Write, rsa_key: rsa.RSAPrivateKey) -> None:
    pem = rsa_key.public_key().public_bytes(Encoding.PEM, PublicFormat.PKCS1)
    assert pem_ring(write(pem), "RS256").keys[0].kid is None


def test_a_secret_and_a_public_key_may_stand_side_by_side(write: Write, rsa_key: rsa.RSAPrivateKey) -> None:
    file = write(public_pem(rsa_key))
    ring = load_keys(AuthSettings(secret=SECRET, algorithms=("HS256", "RS256"), public_key_file=file))
    assert ring.choose(algorithm="HS256", kid=None).key == SECRET.encode()
    assert isinstance(ring.choose(algorithm="RS256", kid=None).key, rsa.RSAPublicKey)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert "No such file" in pem_problem(str(tmp_path / "nowhere"), "RS256")
    assert "No such file" in jwks_problem(str(tmp_path / "nowhere"), "RS256")


def test_a_file_that_is_a_directory(tmp_path: Path) -> None:
    assert "Is a directory" in pem_problem(str(tmp_path), "RS256")


def test_a_file_name_that_cannot_be_one() -> None:
    assert "null byte" in pem_problem("keys\0", "RS256")


@pytest.mark.parametrize("content", [b"", b"rubbish", b"\xff\xfe", b"-----BEGIN PUBLIC KEY-----\nAAAA\n"])
def test_a_file_that_is_not_pem(write: Write, content: bytes) -> None:
    assert "not a public key in PEM" in pem_problem(write(content), "RS256")


@pytest.mark.parametrize(
    "form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL, PrivateFormat.OpenSSH]
)
def test_a_private_key_file_is_refused(write: Write, rsa_key: rsa.RSAPrivateKey, form: PrivateFormat) -> None:
    file = write(rsa_key.private_bytes(Encoding.PEM, form, NoEncryption()))
    assert "is a private key" in pem_problem(file, "RS256")


def test_a_certificate_is_refused_with_the_command_that_extracts_its_key(write: Write) -> None:
    file = write("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    assert "openssl x509 -pubkey" in pem_problem(file, "RS256")


def test_a_short_rsa_key_is_refused(write: Write) -> None:
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    assert "1024 bits; at least 2048" in pem_problem(write(public_pem(weak)), "RS256")
    assert "keys[0]: the RSA key has 1024 bits" in jwks_problem(write(jwks(jwk(weak))), "RS256")


@pytest.mark.parametrize(
    "private",
    [x25519.X25519PrivateKey.generate(), dsa.generate_private_key(key_size=1024)],
    ids=["X25519", "DSA"],
)
def test_a_key_that_signs_no_tokens_is_refused(write: Write, private: Any) -> None:
    assert "is not an RSA, EC or EdDSA key" in pem_problem(write(public_pem(private)), "RS256")


def test_the_curve_must_fit_the_algorithm(write: Write) -> None:
    file = write(public_pem(ec.generate_private_key(ec.SECP384R1())))
    assert "EC secp384r1 key: it verifies ES384; allowed: ES256" in pem_problem(file, "ES256")


def test_a_curve_without_an_algorithm_is_refused(write: Write) -> None:
    file = write(public_pem(ec.generate_private_key(ec.SECP256K1())))
    assert "EC secp256k1 key: no algorithm here uses it" in pem_problem(file, "ES256")


def test_the_kind_of_key_must_fit_the_algorithm(write: Write, rsa_key: rsa.RSAPrivateKey) -> None:
    message = pem_problem(write(public_pem(rsa_key)), "ES256", "EdDSA")
    assert "holds an RSA key: it verifies RS256, RS384, RS512; allowed: ES256, EdDSA" in message


def test_every_algorithm_needs_a_key(write: Write, rsa_key: rsa.RSAPrivateKey) -> None:
    file = write(public_pem(rsa_key))
    assert "no key for ES256" in problem(AuthSettings(algorithms=("RS256", "ES256"), public_key_file=file))
    assert "no key for RS256" in problem(AuthSettings(algorithms=("RS256",), secret=SECRET))


def test_a_key_file_that_no_algorithm_uses_is_refused(write: Write, rsa_key: rsa.RSAPrivateKey) -> None:
    message = problem(AuthSettings(public_key_file=write(public_pem(rsa_key))))
    assert message == "auth.public_key_file is set, but auth.algorithms (HS256) uses no public key"


def test_two_key_files_are_refused(write: Write, rsa_key: rsa.RSAPrivateKey) -> None:
    file = write(public_pem(rsa_key))
    message = problem(AuthSettings(algorithms=("RS256",), public_key_file=file, jwks_file=file))
    assert "both set" in message


# Key sets


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "is not JSON"),
        (b"\xff\xff", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "is not a key set"),
        ("{}", "is not a key set"),
        ('{"keys": {}}', "is not a key set"),
        ('{"keys": [1]}', "keys[0] is not an object"),
        ('{"keys": []}', "none of its keys verifies RS256"),
    ],
)
def test_a_file_that_is_no_key_set(write: Write, content: bytes | str, says: str) -> None:
    assert says in jwks_problem(write(content), "RS256")


def test_the_kid_chooses_the_key(write: Write) -> None:
    one, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ring = jwks_ring(write(jwks(jwk(one, kid="one"), jwk(other, kid="other"))), "ES256")
    assert ring.choose(algorithm="ES256", kid="one").key == one.public_key()
    assert ring.choose(algorithm="ES256", kid="other").key == other.public_key()


@pytest.mark.parametrize(
    ("kid", "says"), [(None, "needs a kid"), ("third", "unknown key"), ([], "unknown key")]
)
def test_a_kid_that_chooses_nothing(write: Write, kid: object, says: str) -> None:
    keys = [jwk(ec.generate_private_key(ec.SECP256R1()), kid=kid) for kid in ("one", "other")]
    ring = jwks_ring(write(jwks(*keys)), "ES256")
    with pytest.raises(Disconnect, match="4001") as caught:
        ring.choose(algorithm="ES256", kid=kid)
    assert says in caught.value.reason


def test_one_key_needs_no_kid_but_a_wrong_one_is_refused(write: Write, rsa_key: rsa.RSAPrivateKey) -> None:
    ring = jwks_ring(write(jwks(jwk(rsa_key, kid="one"))), "RS256")
    assert ring.choose(algorithm="RS256", kid=None) == ring.choose(algorithm="RS256", kid="one")
    with pytest.raises(Disconnect, match="unknown key"):
        ring.choose(algorithm="RS256", kid="two")


def test_a_kid_is_no_matter_to_a_key_that_has_none(write: Write, rsa_key: rsa.RSAPrivateKey) -> None:
    for ring in (
        jwks_ring(write(jwks(jwk(rsa_key))), "RS256"),
        pem_ring(write(public_pem(rsa_key)), "RS256"),
    ):
        assert ring.choose(algorithm="RS256", kid="whatever") == ring.keys[0]


def test_the_kid_cannot_lead_to_a_key_of_another_algorithm(write: Write, rsa_key: rsa.RSAPrivateKey) -> None:
    curve = ec.generate_private_key(ec.SECP256R1())
    ring = jwks_ring(write(jwks(jwk(rsa_key, kid="rsa"), jwk(curve, kid="ec"))), "RS256", "ES256")
    with pytest.raises(Disconnect, match="unknown key"):
        ring.choose(algorithm="RS256", kid="ec")


@pytest.mark.parametrize("kids", [("same", "same"), (None, None), ("one", None), (None, "two")])
def test_keys_that_tokens_cannot_tell_apart_are_refused(
    write: Write, kids: tuple[str | None, str | None]
) -> None:
    keys = [jwk(ec.generate_private_key(ec.SECP256R1()), kid=kid) for kid in kids]
    assert "several keys for ES256, so each needs a kid" in jwks_problem(write(jwks(*keys)), "ES256")


def test_keys_of_different_algorithms_are_told_apart_without_kid(
    write: Write, rsa_key: rsa.RSAPrivateKey
) -> None:
    curve = ec.generate_private_key(ec.SECP256R1())
    ring = jwks_ring(write(jwks(jwk(rsa_key), jwk(curve))), "RS256", "ES256")
    assert ring.choose(algorithm="ES256", kid=None).key == curve.public_key()


@pytest.mark.parametrize(
    "members",
    [
        {"use": "enc"},
        {"key_ops": ["encrypt"]},
        {"key_ops": "verify"},
        {"alg": "RS384"},
        {"alg": "RSA-OAEP"},
        {"alg": ["RS256"]},
        {"kty": "new"},
        {"kty": None},
        {"kty": "EC", "crv": "secp256k1"},
        {"kty": "OKP", "crv": "X25519"},
    ],
)
def test_keys_for_something_else_are_not_used(
    write: Write, rsa_key: rsa.RSAPrivateKey, members: dict[str, Any]
) -> None:
    other = jwk(rsa_key, **members)
    assert "none of its keys verifies RS256" in jwks_problem(write(jwks(other)), "RS256")
    used = jwk(rsa_key, kid="used", use="sig", key_ops=["verify"], alg="RS256")
    assert [key.kid for key in jwks_ring(write(jwks(other, used)), "RS256").keys] == ["used"]


def test_alg_narrows_what_a_key_serves(write: Write, rsa_key: rsa.RSAPrivateKey) -> None:
    key = jwk(rsa_key, alg="RS512")
    assert "no key for RS256" in problem(
        AuthSettings(algorithms=("RS256", "RS512"), jwks_file=write(jwks(key)))
    )
    assert jwks_ring(write(jwks(key)), "RS512").keys[0].algorithms == ("RS512",)


def test_alg_must_fit_the_key(write: Write) -> None:
    key = jwk(ec.generate_private_key(ec.SECP256R1()), alg="RS256")
    assert "keys[0]: holds an EC secp256r1 key: it verifies ES256" in jwks_problem(write(jwks(key)), "RS256")


@pytest.mark.parametrize(
    "private",
    [
        RSAAlgorithm.to_jwk(rsa.generate_private_key(public_exponent=65537, key_size=2048), as_dict=True),
        ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()), as_dict=True),
        OKPAlgorithm.to_jwk(ed25519.Ed25519PrivateKey.generate(), as_dict=True),
        {"kty": "oct", "k": base64.urlsafe_b64encode(SECRET.encode()).decode()},
    ],
    ids=["RSA", "EC", "EdDSA", "oct"],
)
def test_private_and_secret_keys_are_refused(
    write: Write, rsa_key: rsa.RSAPrivateKey, private: dict[str, Any]
) -> None:
    message = jwks_problem(write(jwks(jwk(rsa_key), private | {"use": "enc"})), "RS256")
    assert "keys[1] is a private or secret key" in message
    assert not any(isinstance(v, str) and len(v) > 9 and v in message for v in private.values())


def test_a_kid_must_be_text(write: Write, rsa_key: rsa.RSAPrivateKey) -> None:
    assert "kid is not a string" in jwks_problem(write(jwks(jwk(rsa_key, kid=7))), "RS256")


@pytest.mark.parametrize("members", [{"n": None}, {"n": 7}, {"n": "AQ"}, {"e": "AA"}, {"e": {}}, {"n": "a"}])
def test_a_broken_rsa_key_is_refused(
    write: Write, rsa_key: rsa.RSAPrivateKey, members: dict[str, Any]
) -> None:
    jwks_problem(write(jwks(jwk(rsa_key, **members))), "RS256")


@pytest.mark.parametrize("members", [{"x": "AAAA"}, {"x": None}, {"y": "A" * 43}, {"y": 1}, {"y": []}])
def test_a_broken_ec_key_is_refused(write: Write, members: dict[str, Any]) -> None:
    key = jwk(ec.generate_private_key(ec.SECP256R1()), **members)
    assert "keys[0] is not a valid EC key" in jwks_problem(write(jwks(key)), "ES256")


@pytest.mark.parametrize("members", [{"x": "AAAA"}, {"x": None}, {"x": 1}])
def test_a_broken_eddsa_key_is_refused(write: Write, members: dict[str, Any]) -> None:
    key = jwk(ed25519.Ed25519PrivateKey.generate(), **members)
    assert "keys[0] is not a valid OKP key" in jwks_problem(write(jwks(key)), "EdDSA")
