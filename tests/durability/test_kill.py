"""A server that is killed again and again under load: whatever it acknowledged is there, once and in its place."""

import random
from pathlib import Path

import trio

from tests.durability.clients import Ledger, Member, Notifier, Publisher
from tests.durability.servers import TEST_SECONDS, Server, serve

ROOMS = ("den", "loft", "yard")
KILLS = 7
"""Killed in the midst of this many lives; one more is left to end in peace."""


async def test_acknowledged_events_survive_kill_9_once_and_in_order(tmp_path: Path) -> None:
    ledger = Ledger()
    talkers = [Member(f"{room}-{n}", room, ledger) for room in ROOMS for n in range(2)]
    listeners = [Member(f"{room}-listener", room, ledger, is_talking=False) for room in ROOMS]
    notifiers = [Notifier(f"{room}-http", room, ledger) for room in ROOMS[:2]]
    members = talkers + listeners
    clients: list[Publisher] = [*members, *notifiers]
    when = random.Random(1)
    with trio.fail_after(TEST_SECONDS):
        for life in range(KILLS):
            async with serve(tmp_path / "rooms.db") as server, trio.open_nursery() as nursery:
                for client in clients:
                    nursery.start_soon(client.stay, server)
                for member in members:
                    await member.wait_connected(life + 1)
                # Some are always on their way when the server dies: nobody waits for an answer to go on.
                await ledger.wait_grown_by(when.randrange(50, 250))
                await server.kill()
        for client in clients:
            client.is_talking = False
        async with serve(tmp_path / "rooms.db") as server, trio.open_nursery() as nursery:
            for member in members:
                nursery.start_soon(member.stay, server)
            for notifier in notifiers:
                await notifier.stay(server)
            for member in members:
                await member.wait_connected(KILLS + 1)
                await member.wait_answered()
            await check_at_last(server, ledger, members)
            await server.kill()
    assert len(ledger.places) == sum(client.said for client in clients)


async def check_at_last(server: Server, ledger: Ledger, members: list[Member]) -> None:
    """All that was acknowledged is there, and each member heard it from its first event on, in order and once."""
    for room in ROOMS:
        await ledger.check_history(server, room)
    for member in members:
        # Whatever was said before has been heard when the pong comes.
        await member.ping()
        texts = ledger.texts(member.room)
        first = member.heard[0][0]
        assert member.heard == [(offset, texts[offset]) for offset in range(first, len(texts) + 1)]
