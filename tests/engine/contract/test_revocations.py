"""Revocations of tokens, as every engine keeps them."""

from typing import TYPE_CHECKING

import pytest
import trio

from broker.auth.revocations import Revocation, RevocationKind
from broker.engine.base import Engine
from broker.engine.revocations import RevocationStore
from tests.support.patience import PATIENCE_SECONDS

if TYPE_CHECKING:
    from tests.engine.contract.conftest import Wall

NOW = 1_700_000_000.0
TOKEN, USER, ISSUED = RevocationKind


@pytest.fixture
def store(engine: Engine) -> RevocationStore:
    assert engine.revocations is not None
    return engine.revocations


async def test_revocations_are_kept_until_they_run_out(store: RevocationStore, wall: "Wall") -> None:
    assert list(await store.read(now=NOW)) == []
    kept = {
        Revocation(TOKEN, "a:ü\n", NOW + 60.5),
        Revocation(USER, "ann", NOW + 3600.0),
        Revocation(ISSUED, "ann", NOW + 120.0, NOW - 0.25),
    }
    for revocation in kept:
        await store.store(revocation, now=NOW)
    assert set(await store.read(now=NOW)) == kept
    wall.now = NOW + 61.0
    assert {one.kind for one in await store.read(now=wall.now)} == {USER, ISSUED}
    # Those that have run out leave nothing to those that come later.
    await store.store(Revocation(TOKEN, "a:ü\n", NOW + 70.0), now=wall.now)
    wall.now = NOW + 3601.0
    assert list(await store.read(now=wall.now)) == []
    await store.store(Revocation(ISSUED, "ann", NOW + 4000.0, 5.0), now=wall.now)
    assert list(await store.read(now=wall.now)) == [Revocation(ISSUED, "ann", NOW + 4000.0, 5.0)]


async def test_revocations_of_one_key_are_merged(store: RevocationStore) -> None:
    parts = [
        Revocation(ISSUED, "ann", NOW + 60.0, 7.0),
        Revocation(ISSUED, "ann", NOW + 90.0, 3.0),
        Revocation(ISSUED, "ann", NOW + 70.0, 5.5),
        Revocation(TOKEN, "ann", NOW + 80.0),
        Revocation(TOKEN, "ann", NOW + 20.0),
    ]
    for part in parts:
        await store.store(part, now=NOW)
    assert set(await store.read(now=NOW)) == {
        Revocation(ISSUED, "ann", NOW + 90.0, 7.0),
        Revocation(TOKEN, "ann", NOW + 80.0),
    }


async def test_a_listener_is_told_of_each(store: RevocationStore) -> None:
    told: list[Revocation | None] = []
    store.on_revocation(told.append)
    revocation = Revocation(ISSUED, "ann", NOW + 60.0, 7.0)
    with trio.fail_after(PATIENCE_SECONDS):
        while revocation not in told:
            # Told of it, or that it fell behind, which is no loss: then it reads.
            await store.store(revocation, now=NOW)
            await trio.sleep(0.001)
    assert set(told) <= {revocation, None}
