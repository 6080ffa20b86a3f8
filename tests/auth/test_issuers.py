"""Several issuers at a time: tokens of the shapes that providers sign, each with the keys of its own issuer alone."""

import json

import attrs
import jwt
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from broker.auth.claims import ClaimNames, with_usual_names
from broker.auth.remote_keys import RemoteKeySets
from broker.auth.tokens import open_verifier, verify_with_patience
from broker.config.settings import AuthSettings, IssuerSettings
from broker.errors import CloseCode, Disconnect, RefusalReason
from tests.support.logs import RecordingLog
from tests.support.provider import NEVER, SigningKey, answer, open_provider
from tests.support.secrets import SECRET

SUPABASE_SECRET = SECRET[::-1]


@attrs.frozen
class Shape:
    """The tokens of a provider, and the settings for them; keys are at /NAME of the local server."""

    issuer: str
    payload: dict
    user_id: str
    algorithm: str = "RS256"
    rooms: tuple | None = None
    settings: dict = attrs.field(factory=dict)
    wrong: dict = attrs.field(factory=dict)
    """A claim with a value for which the token is not ours."""


SHAPES = {
    "auth0": Shape(
        "https://tenant.eu.auth0.com/",
        {
            "sub": "auth0|5f7c8ec7c33c6c004bbafe82",
            "aud": ["https://rooms.example/api", "https://tenant.eu.auth0.com/userinfo"],
            "azp": "my_client_id",
            "iat": 1_600_000_000,
            "scope": "openid profile",
            "https://app.example/rooms": ["team.*"],
        },
        "auth0|5f7c8ec7c33c6c004bbafe82",
        rooms=("team.*",),
        settings={"audience": "https://rooms.example/api", "rooms_claim": "https://app.example/rooms"},
        wrong={"aud": ["https://tenant.eu.auth0.com/userinfo"]},
    ),
    "keycloak": Shape(
        "https://sso.example/realms/shop",
        {
            "jti": "3f2a",
            "typ": "Bearer",
            "sub": "f:1c9b",
            "aud": "account",
            "azp": "shop-web",
            "preferred_username": "ann",
            "realm_access": {"roles": ["offline_access"]},
            "greenroom": {"rooms": ["lobby"]},
        },
        "ann",
        rooms=("lobby",),
        settings={
            "audience": "account",
            "authorized_parties": ["shop-web"],
            "user_claim": "preferred_username",
            "rooms_claim": "greenroom.rooms",
        },
        wrong={"azp": "admin-cli"},
    ),
    "clerk": Shape(
        "https://clerk.app.example",
        {"sub": "user_2aB", "sid": "sess_1", "azp": "https://app.example", "nbf": 1_600_000_000, "v": 2},
        "user_2aB",
        settings={"authorized_parties": ["https://app.example", "http://localhost:3000"]},
        wrong={"azp": "https://evil.example"},
    ),
    "supabase": Shape(
        "https://abc.supabase.co/auth/v1",
        {
            "sub": "2f6c4c1e-4a52-4d4e-8b1b-0c6f2b1f7a11",
            "aud": "authenticated",
            "role": "authenticated",
            "session_id": "x",
            "app_metadata": {"provider": "email", "rooms": ["a", "b"]},
            "user_metadata": {"rooms": ["*"]},
        },
        "2f6c4c1e-4a52-4d4e-8b1b-0c6f2b1f7a11",
        algorithm="ES256",
        rooms=("a", "b"),
        settings={
            "algorithms": ["ES256"],
            "audience": "authenticated",
            "rooms_claim": "app_metadata.rooms",
        },
        wrong={"aud": "anon"},
    ),
    "supabase with its secret": Shape(
        "https://old.supabase.co/auth/v1",
        {"sub": "2f6c", "aud": "authenticated", "role": "authenticated"},
        "2f6c",
        algorithm="HS256",
        settings={"algorithms": ["HS256"], "audience": "authenticated", "secret": SUPABASE_SECRET},
        wrong={"aud": "anon"},
    ),
    "firebase": Shape(
        "https://securetoken.google.com/my-project",
        {
            "sub": "9aXyZ",
            "user_id": "9aXyZ",
            "aud": "my-project",
            "auth_time": 1_600_000_000,
            "firebase": {"identities": {}, "sign_in_provider": "google.com"},
        },
        "9aXyZ",
        settings={"audience": "my-project", "user_claim": "user_id"},
        wrong={"aud": "another-project"},
    ),
}
KEYS = {
    name: SigningKey.make(f"key-of-{name}", shape.algorithm)
    for name, shape in SHAPES.items()
    if shape.algorithm != "HS256"
}


def sign(signer, payload, header=None):
    """Return a token with that payload, signed as the shape `signer` does it."""
    if signer == "supabase with its secret":
        return jwt.encode({"exp": NEVER, **payload}, SUPABASE_SECRET, algorithm="HS256", headers=header)
    return KEYS[signer].token(payload, **(header or {}))


def claims(name, **changed):
    shape = SHAPES[name]
    return {"iss": shape.issuer, **shape.payload, **changed}


def settings_of(url, *, secret=SECRET):
    entries = []
    for name, shape in SHAPES.items():
        fields = {"issuer": shape.issuer, **shape.settings}
        if shape.algorithm != "HS256":
            fields["jwks_url"] = f"{url}/{name}"
        fields = {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
        entries.append(IssuerSettings(**fields))
    return AuthSettings(secret=secret, issuers=tuple(entries))


@pytest.fixture
async def verifiers():
    """The verifier of all shapes with `[auth]`'s secret, and without; their keys come from a real server."""
    async with open_provider() as provider, trio.open_nursery() as nursery:
        for name, key in KEYS.items():
            provider.answers[f"/{name}"] = answer({"keys": [key.jwk()]})
        remote = RemoteKeySets()
        opened = [
            open_verifier(settings_of(provider.url, secret=secret), wall_clock=lambda: 1.7e9, remote=remote)
            for secret in (SECRET, None)
        ]
        nursery.start_soon(remote.run, RecordingLog())
        with trio.fail_after(120):
            for name in SHAPES:
                await verify_with_patience(opened[0], sign(name, claims(name)))
        yield opened
        nursery.cancel_scope.cancel()


def outcome(verifier, token):
    try:
        return verifier.verify(token)
    except Disconnect as refusal:
        return refusal.code, refusal.reason, refusal.why


def without_fast_paths(verifier):
    """Return a verifier that has PyJWT decide on every token."""
    slow = {name: attrs.evolve(issuer, fast_paths=()) for name, issuer in verifier._issuers.items()}
    own = None if verifier._own is None else attrs.evolve(verifier._own, fast_paths=())
    return attrs.evolve(verifier, own=own, issuers=slow)


async def test_each_provider_is_understood_with_its_own_keys_alone(verifiers):
    for verifier in verifiers:
        slow = without_fast_paths(verifier)
        for name, shape in SHAPES.items():
            found = verifier.verify(sign(name, claims(name)))
            assert (found.user_id, found.rooms, found.expires_at) == (shape.user_id, shape.rooms, NEVER), name
            # Whoever else signs it, with whatever keys and secrets there are.
            for other in SHAPES:
                token = sign(other, claims(name))
                if other != name:
                    code, _, why = outcome(verifier, token)
                    assert code == CloseCode.UNAUTHORIZED
                    assert why in {
                        RefusalReason.TOKEN_KEY,
                        RefusalReason.TOKEN_SIGNATURE,
                        RefusalReason.KEYS_AWAY,
                    }
                assert outcome(verifier, token) == outcome(slow, token)
            own_secret = jwt.encode({"exp": NEVER, **claims(name)}, SECRET, algorithm="HS256")
            assert outcome(verifier, own_secret)[0] == CloseCode.UNAUTHORIZED, name
            assert outcome(verifier, own_secret) == outcome(slow, own_secret)
            # The algorithms of another issuer: the public key's text as a secret.
            if name in KEYS:
                forged = jwt.encode(
                    claims(name),
                    jwt.utils.base64url_encode(b"k" * 40),
                    algorithm="HS256",
                    headers={"kid": KEYS[name].kid},
                )
                assert outcome(verifier, forged)[2] is RefusalReason.TOKEN_KEY
            wrong = sign(name, claims(name, **shape.wrong))
            assert outcome(verifier, wrong)[2] is RefusalReason.TOKEN_AUDIENCE, name
            assert outcome(verifier, sign(name, claims(name, exp=1)))[2] is RefusalReason.TOKEN_EXPIRED
            # A user may choose these claims where the settings name others.
            chosen = sign(name, claims(name, rooms=["*"]) if shape.rooms is not None else claims(name))
            assert verifier.verify(chosen).rooms == shape.rooms


async def test_a_token_of_no_issuer_is_that_of_the_application_or_of_nobody(verifiers):
    with_secret, without = verifiers
    for iss in (
        {},
        {"iss": "https://elsewhere.example"},
        {"iss": 5},
        {"iss": None},
        {"iss": ["https://tenant.eu.auth0.com/"]},
    ):
        payload = {"sub": "ann", "exp": NEVER, **iss}
        # PyJWT's own encoder refuses an iss that is no text.
        token = jwt.PyJWS().encode(json.dumps(payload).encode(), SECRET, algorithm="HS256")
        assert outcome(with_secret, token) == outcome(without_fast_paths(with_secret), token)
        assert with_secret.verify(token).user_id == "ann"
        assert outcome(without, token)[2] is RefusalReason.TOKEN_ISSUER
    for key in KEYS.values():
        token = key.token({"sub": "ann", "iss": "https://elsewhere.example"})
        assert outcome(with_secret, token)[2] is RefusalReason.TOKEN_KEY


async def test_what_is_no_token_is_refused(verifiers):
    for token in ("", "a", "a.b", "a.b.c", "..", "a.e30.c", "a.W10.c", "\u00e9.e30.c", "x" * 9000):
        for verifier in verifiers:
            assert outcome(verifier, token)[0] == CloseCode.UNAUTHORIZED
            assert outcome(verifier, token) == outcome(without_fast_paths(verifier), token)


JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.dictionaries(st.sampled_from(["a", "b", "sub", "rooms", "a.b"]), inner, max_size=3),
)
NAMES = st.sampled_from(["sub", "rooms", "can", "a", "a.b", "a.a.b", "b.sub", "", ".", "rooms.a"])


@given(
    st.dictionaries(st.sampled_from(["sub", "rooms", "can", "exp", "a", "b", "a.b"]), JSON),
    NAMES,
    NAMES,
    NAMES,
)
def test_claims_come_from_the_named_places_alone(payload, user, rooms, can):
    usual = with_usual_names(payload, ClaimNames(user, rooms, can))
    for name, asked in (("sub", user), ("rooms", rooms), ("can", can)):
        if asked in payload:
            assert usual[name] == payload[asked]
            continue
        value = payload
        for part in asked.split("."):
            value = value.get(part, ...) if isinstance(value, dict) else ...
        assert (name in usual) is (value is not ...)
        if value is not ...:
            assert usual[name] == value
    others = {name: value for name, value in payload.items() if name not in {"sub", "rooms", "can"}}
    assert {name: value for name, value in usual.items() if name not in {"sub", "rooms", "can"}} == others
