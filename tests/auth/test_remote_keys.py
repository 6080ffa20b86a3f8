"""Keys that are fetched: when, how often, and what holds while they cannot be had. In virtual time."""

import base64
import json

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from broker.auth.binding import bind_public_key
from broker.auth.keys import KeyRing, KeySource
from broker.auth.pending import KeysPending
from broker.auth.remote_keys import (
    LAST_RETRY_SECONDS,
    LEAST_AGE_SECONDS,
    MOST_AGE_SECONDS,
    UNKNOWN_KID_SECONDS,
    FetchedKeys,
    KeyFetchError,
    RemoteKeySets,
    refresh_delay,
    retry_delay,
)
from broker.auth.tokens import KEYS_PATIENCE_SECONDS, open_verifier, verify_with_patience
from broker.config.settings import AuthSettings
from broker.errors import CloseCode, Disconnect
from tests.support.logs import RecordingLog
from tests.support.provider import SigningKey

URL = "https://issuer.example/keys"
SETTINGS = AuthSettings(algorithms=("ES256",), jwks_url=URL)
OLD, NEW, STRANGER = (SigningKey.make(kid) for kid in ("old", "new", "stranger"))


@attrs.define
class FakeIssuer:
    """Answers with some keys after some time, or fails."""

    keys: tuple[SigningKey, ...] = (OLD,)
    age_seconds: float | None = 1000.0
    takes_seconds: float = 1.0
    is_down: bool = False
    asked_at: list[float] = attrs.field(factory=list)

    async def fetch(self, source: KeySource) -> FetchedKeys:
        self.asked_at.append(trio.current_time())
        await trio.sleep(self.takes_seconds)
        if self.is_down:
            raise KeyFetchError("down")
        bound = [
            bind_public_key(key.private.public_key(), allowed=source.algorithms, place="", kid=key.kid)
            for key in self.keys
        ]
        return FetchedKeys(KeyRing(tuple(bound)), self.age_seconds)


class World:
    def __init__(self):
        self.issuer, self.log = FakeIssuer(), RecordingLog()
        self.remote = RemoteKeySets(self.issuer.fetch)
        self.verifier = open_verifier(SETTINGS, wall_clock=lambda: 0.0, remote=self.remote)

    def outcome(self, key):
        """Return the user's id, or the close code."""
        try:
            return self.verifier.verify(key.token({"sub": "ann"})).user_id
        except Disconnect as refusal:
            return refusal.code

    async def patient_outcome(self, key):
        try:
            return (await verify_with_patience(self.verifier, key.token({"sub": "ann"}))).user_id
        except Disconnect as refusal:
            return refusal.code


LATER, NEVER = CloseCode.TRY_AGAIN_LATER, CloseCode.UNAUTHORIZED


@pytest.fixture
async def world(autojump_clock):
    world = World()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.remote.run, world.log)
        yield world
        nursery.cancel_scope.cancel()


async def test_the_first_connections_wait_for_the_keys(world, autojump_clock):
    assert world.outcome(OLD) is LATER
    assert world.verifier.lacks_keys
    began = trio.current_time()
    outcomes = []

    async def verify(key):
        outcomes.append(await world.patient_outcome(key))

    async with trio.open_nursery() as nursery:
        for key in (OLD, OLD, STRANGER):
            nursery.start_soon(verify, key)
    assert sorted(map(str, outcomes)) == sorted(map(str, ["ann", "ann", NEVER]))
    assert trio.current_time() - began == world.issuer.takes_seconds
    assert not world.verifier.lacks_keys


async def test_nobody_waits_for_ever(world, autojump_clock):
    world.issuer.takes_seconds = 1000
    began = trio.current_time()
    assert await world.patient_outcome(OLD) is LATER
    assert trio.current_time() - began == KEYS_PATIENCE_SECONDS


async def test_keys_are_fetched_before_their_age_and_one_that_is_gone_verifies_nothing(world, autojump_clock):
    await trio.sleep(2)
    world.issuer.keys = (NEW,)
    await trio.sleep(700)
    assert world.outcome(OLD) == "ann"
    await trio.sleep(100)
    # Three quarters of 1000 seconds after the first answer.
    assert world.issuer.asked_at == [0, 751]
    assert world.outcome(OLD) is LATER
    assert world.outcome(NEW) == "ann"
    assert await world.patient_outcome(OLD) is NEVER


async def test_an_issuer_that_is_down_costs_nobody_a_connection(world, autojump_clock):
    await trio.sleep(2)
    world.issuer.is_down = True
    await trio.sleep(10 * 86_400)
    assert world.outcome(OLD) == "ann"
    assert not world.verifier.lacks_keys
    # What cannot be known is not refused for good.
    assert await world.patient_outcome(NEW) is LATER
    gaps = [b - a for a, b in zip(world.issuer.asked_at[1:], world.issuer.asked_at[2:], strict=False)]
    assert gaps[:7] == [2, 3, 5, 9, 17, 33, 61]
    assert max(gaps) == LAST_RETRY_SECONDS + world.issuer.takes_seconds
    assert {(level, event) for level, event, _ in world.log.lines[1:]} == {
        ("warning", "token keys not fetched")
    }
    world.issuer.is_down, world.issuer.keys = False, (NEW,)
    await trio.sleep(62)
    assert (world.outcome(NEW), world.log.lines[-1][1]) == ("ann", "token keys fetched")


async def test_an_unknown_key_id_has_the_keys_fetched_at_once(world, autojump_clock):
    await trio.sleep(100)
    world.issuer.keys = (OLD, NEW)
    assert world.outcome(NEW) is LATER
    assert world.outcome(OLD) == "ann"
    assert await world.patient_outcome(NEW) == "ann"
    assert world.issuer.asked_at == [0, 100]


@pytest.mark.parametrize("is_down", [False, True])
async def test_a_flood_of_unknown_key_ids_fetches_now_and_then(world, autojump_clock, is_down):
    await trio.sleep(100)
    world.issuer.is_down = is_down
    for _ in range(1000):
        assert world.outcome(STRANGER) in {LATER, NEVER}
        assert world.outcome(OLD) == "ann"
        await trio.sleep(0.1)
    gaps = [b - a for a, b in zip(world.issuer.asked_at[1:], world.issuer.asked_at[2:], strict=False)]
    # 1 s for the answer; failures are followed by attempts of their own, at first sooner.
    assert len(gaps) <= 100 / UNKNOWN_KID_SECONDS + (5 if is_down else 0)
    if not is_down:
        assert min(gaps) >= UNKNOWN_KID_SECONDS
        assert await world.patient_outcome(STRANGER) is NEVER


@pytest.mark.parametrize("header", [{"alg": "HS256"}, {"alg": "RS256"}, {"alg": "none"}, {"kid": None}])
async def test_a_token_that_no_key_could_verify_fetches_nothing(world, autojump_clock, header):
    await trio.sleep(100)
    token = STRANGER.token({"sub": "ann"})
    _, payload, signature = token.split(".")
    whole = {"alg": "ES256", "kid": "x", **header}
    whole = {name: value for name, value in whole.items() if value is not None}
    forged = base64.urlsafe_b64encode(json.dumps(whole).encode()).rstrip(b"=").decode()
    with pytest.raises(Disconnect) as caught:
        world.verifier.verify(f"{forged}.{payload}.{signature}")
    assert caught.value.code is NEVER
    await trio.sleep(5)
    assert world.issuer.asked_at == [0]


async def test_a_reload_keeps_the_keys_of_a_source_that_stays_and_ends_the_others(world, autojump_clock):
    await trio.sleep(2)
    again = open_verifier(SETTINGS, wall_clock=lambda: 0.0, remote=world.remote)
    assert again.verify(OLD.token({"sub": "ann"})).user_id == "ann"
    other = AuthSettings(algorithms=("ES256",), issuer="https://other.example/", discovery=True)
    verifier = open_verifier(other, wall_clock=lambda: 0.0, remote=world.remote)
    (source,) = verifier.sources
    assert source.url == "https://other.example/.well-known/openid-configuration"
    world.remote.keep(verifier.sources)
    await trio.sleep(10_000)
    assert len(world.issuer.asked_at) == 2 + 10_000 // 751
    assert not verifier.lacks_keys


async def test_a_failing_first_fetch_is_repeated(world, autojump_clock):
    world.issuer.is_down = True
    await trio.sleep(20)
    assert (world.outcome(OLD), world.verifier.lacks_keys) == (LATER, True)
    world.issuer.is_down = False
    await trio.sleep(60)
    assert world.outcome(OLD) == "ann"


def test_a_refusal_tells_that_it_is_worth_another_try():
    pending = KeysPending.of(trio.Event())
    assert (pending.code, pending.why.value) == (LATER, "keys_away")
    assert len(pending.reason.encode()) <= 123


@given(st.none() | st.floats(0, 1e10))
def test_the_age_is_bounded(age):
    delay = refresh_delay(age)
    assert 0.75 * LEAST_AGE_SECONDS <= delay <= 0.75 * MOST_AGE_SECONDS
    if age is not None and LEAST_AGE_SECONDS <= age <= MOST_AGE_SECONDS:
        assert delay == 0.75 * age


@given(st.integers(1, 10**6))
def test_the_pause_after_failures_is_bounded(failures):
    assert 1 <= retry_delay(failures) <= LAST_RETRY_SECONDS
