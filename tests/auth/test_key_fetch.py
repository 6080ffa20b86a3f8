"""Key sets as issuers serve them, from a real HTTP server, and everything that is no key set."""

import json

import pytest
import trio

from broker.auth import key_fetch
from broker.auth.key_fetch import fetch_keys, stated_age
from broker.auth.keys import KeySource
from broker.auth.remote_keys import KeyFetchError
from broker.config.key_urls import check_key_url, discovery_url
from tests.support.provider import SigningKey, answer, open_provider

ONE, TWO = SigningKey.make("one"), SigningKey.make("two")
RSA = SigningKey.make("rsa", "RS256")
CONFIGURATION = "/realm/.well-known/openid-configuration"


@pytest.fixture
async def provider():
    with trio.fail_after(120):
        async with open_provider() as provider:
            yield provider


def at(provider, path="/keys", algorithms=("ES256",)):
    return KeySource(provider.url + path, algorithms)


def discovered(provider):
    return KeySource(discovery_url(provider.issuer), ("ES256",), discovers=provider.issuer)


def kids(fetched):
    return [key.kid for key in fetched.ring.keys]


async def test_keys_come_from_their_address_or_by_discovery(provider):
    provider.publish(ONE, TWO, Cache_Control="public, max-age=600", Age="100")
    for source in (at(provider), discovered(provider)):
        fetched = await fetch_keys(source)
        assert (kids(fetched), fetched.age_seconds) == (["one", "two"], 500.0)
    assert provider.asked == ["/keys", CONFIGURATION, "/keys"]


async def test_keys_for_something_else_are_left_out(provider):
    others = [
        RSA.jwk(),
        TWO.jwk(kid="enc", use="enc"),
        TWO.jwk(kid="es384", alg="ES384"),
        {"kty": "future", "kid": "x"},
        {"kty": "EC", "crv": "secp256k1", "kid": "k", "x": "AA", "y": "AA"},
        {"kty": "RSA", "use": "enc", "kid": "e", "n": "AA", "e": "AQAB"},
    ]
    provider.answers["/keys"] = answer({"keys": [*others, ONE.jwk()]})
    assert kids(await fetch_keys(at(provider))) == ["one"]
    # Each key serves the algorithms of its own type alone, whatever else is allowed.
    both = await fetch_keys(at(provider, algorithms=("RS256", "ES256")))
    assert {key.kid: key.algorithms for key in both.ring.keys} == {"rsa": ("RS256",), "one": ("ES256",)}


def keys(*entries):
    return answer({"keys": list(entries)})


REFUSED = {
    "no such page": (answer({}, 404), "status 404"),
    "a failure": (answer({"keys": [ONE.jwk()]}, 500), "status 500"),
    "no content": (answer(b"", 204), "status 204"),
    "a redirect": (answer(b"", 302, Location="/other"), "redirected"),
    "a redirect with keys": (answer({"keys": [ONE.jwk()]}, 301, Location="/other"), "redirected"),
    "no HTTP": (b"hello\r\n\r\n", "Error"),
    "half a document": (answer({"keys": [ONE.jwk()]})[:-5], "Error"),
    "a compressed one": (answer(b"x", Content_Encoding="gzip"), "compressed"),
    "no JSON": (answer(b"<html>"), "is not JSON"),
    "too deep": (answer(b"[" * 100_000), "is not JSON"),
    "no object": (answer([ONE.jwk()]), "is not a key set"),
    "no list": (answer({"keys": {"one": ONE.jwk()}}), "is not a key set"),
    "certificates, as Firebase's x509": (answer({"one": "-----BEGIN CERTIFICATE-----"}), "is not a key set"),
    "no keys": (keys(), "none of its keys"),
    "keys of unknown types only": (keys({"kty": "future", "kid": "x"}), "none of its keys"),
    "keys for other algorithms only": (keys(RSA.jwk()), "none of its keys"),
    "an entry that is none": (keys(ONE.jwk(), 1), "is not an object"),
    "a key without kid": (keys(ONE.jwk(kid=None)), "no kid"),
    "an empty kid": (keys(ONE.jwk(kid="")), "no kid"),
    "a kid that is no text": (keys(ONE.jwk(kid=1)), "kid is not a string"),
    "one kid twice": (keys(ONE.jwk(), TWO.jwk(kid="one")), "kid of its own"),
    "a private key": (keys(ONE.jwk(d="AAAA")), "private or secret"),
    "a shared secret": (keys({"kty": "oct", "kid": "x", "k": "c2VjcmV0"}), "private or secret"),
    "a broken key": (keys(ONE.jwk(x="AAAA")), "is not a valid EC key"),
    "a type that its key is not": (keys(ONE.jwk(kty="OKP", crv="Ed25519", alg="ES256")), "none of its keys"),
}


@pytest.mark.parametrize(("response", "reason"), REFUSED.values(), ids=REFUSED)
async def test_what_is_no_key_set_is_refused(provider, response, reason):
    provider.answers["/keys"] = response
    provider.answers["/other"] = answer({"keys": [ONE.jwk()]})
    with pytest.raises(KeyFetchError) as caught:
        await fetch_keys(at(provider))
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert provider.asked == ["/keys"]


async def test_weak_keys_are_refused(provider):
    weak = RSA.jwk(n=RSA.jwk()["n"][:100])
    provider.answers["/keys"] = answer({"keys": [weak]})
    with pytest.raises(KeyFetchError, match="at least 2048"):
        await fetch_keys(at(provider, algorithms=("RS256",)))


METADATA = {
    "no JSON": (b"x", "not JSON"),
    "no object": (b"[]", "no object"),
    "another issuer": ({"issuer": "https://evil.example", "jwks_uri": "URL/keys"}, "another issuer"),
    "a slash more": ({"issuer": "ISSUER/", "jwks_uri": "URL/keys"}, "another issuer"),
    "no issuer": ({"jwks_uri": "URL/keys"}, "another issuer"),
    "no address": ({"issuer": "ISSUER"}, "no jwks_uri"),
    "an address that is none": ({"issuer": "ISSUER", "jwks_uri": 5}, "no jwks_uri"),
    "a plain address": ({"issuer": "ISSUER", "jwks_uri": "http://issuer.example/keys"}, "https://"),
    "a file": ({"issuer": "ISSUER", "jwks_uri": "file:///etc/passwd"}, "must be an address"),
    "a relative address": ({"issuer": "ISSUER", "jwks_uri": "/keys"}, "must be an address"),
}


@pytest.mark.parametrize(("metadata", "reason"), METADATA.values(), ids=METADATA)
async def test_odd_metadata_are_refused(provider, metadata, reason):
    provider.publish(ONE)
    text = metadata if isinstance(metadata, bytes) else json.dumps(metadata).encode()
    text = text.replace(b"ISSUER", provider.issuer.encode()).replace(b"URL", provider.url.encode())
    provider.answers[CONFIGURATION] = answer(text)
    with pytest.raises(KeyFetchError, match=reason):
        await fetch_keys(discovered(provider))
    assert provider.asked == [CONFIGURATION]


async def test_a_document_without_end_and_a_server_that_hangs_are_given_up(provider, monkeypatch):
    provider.answers["/keys"] = answer(b" " * (key_fetch.MAX_DOCUMENT_BYTES + 1))
    with pytest.raises(KeyFetchError, match="larger than 256 KiB"):
        await fetch_keys(at(provider))
    monkeypatch.setattr(key_fetch, "FETCH_SECONDS", 0.2)
    provider.answers["/keys"] = None
    with pytest.raises(KeyFetchError, match="no whole answer"):
        await fetch_keys(at(provider))


async def test_a_server_that_is_away_is_told(provider):
    with pytest.raises(KeyFetchError, match="ConnectError"):
        await fetch_keys(KeySource("http://127.0.0.1:1/keys", ("ES256",)))


@pytest.mark.parametrize(
    ("headers", "age"),
    [
        ({}, None),
        ({"cache-control": "public, max-age=19845, must-revalidate"}, 19845.0),
        ({"cache-control": 'MAX-AGE="60"'}, 60.0),
        ({"cache-control": "max-age=60", "age": "70"}, 0.0),
        ({"cache-control": "max-age=60", "age": "x"}, 60.0),
        ({"cache-control": "no-store, max-age=60"}, 0.0),
        ({"cache-control": "no-cache"}, 0.0),
        ({"cache-control": "max-age=-1"}, None),
        ({"cache-control": "max-age=99999999999999999999"}, None),
        ({"cache-control": "s-maxage=60"}, None),
    ],
)
def test_the_stated_age(headers, age):
    assert stated_age(headers) == age


GOOD = [
    "https://issuer.example/keys",
    "https://issuer.example:8443/a/b?c=d",
    "http://localhost:8080/keys",
    "http://127.0.0.1/keys",
    "http://[::1]:1/keys",
]
BAD = [
    "http://issuer.example/keys",
    "http://10.0.0.1/keys",
    "http://localhost.evil.example/keys",
    "http://127.0.0.1.evil.example/keys",
    "ftp://issuer.example/keys",
    "file:///etc/passwd",
    "issuer.example/keys",
    "https://",
    "https:///keys",
    "https://user:word@issuer.example/keys",
    "https://issuer.example/keys#a",
    "https://issuer.example:99999/",
    "https://[::1",
    "https://issuer.example/a b",
    "https://issüer.example/",
    "",
]


@pytest.mark.parametrize("url", GOOD)
def test_an_address_of_keys(url):
    check_key_url(url)


@pytest.mark.parametrize("url", BAD)
def test_what_is_no_address_of_keys(url):
    with pytest.raises(ValueError, match=r"^[a-z]") as caught:
        check_key_url(url)
    assert "word" not in str(caught.value).replace("password", "")
