"""A served broker tells an application over HTTP: what happened, in order, signed, and in metrics."""

from typing import TYPE_CHECKING

import trio

from tests.support.patience import PATIENCE_SECONDS
from tests.support.receiver import SECRET, Application, Manner, open_application

if TYPE_CHECKING:
    from tests.support.served import Serve


async def wait_for(application: Application, count: int) -> list[dict]:
    """Return the book once it has so many entries."""
    with trio.fail_after(PATIENCE_SECONDS):
        while len(application.entries) < count:
            await trio.sleep(0.01)
    return list(application.entries.values())


def table(application: Application, **changed: object) -> dict:
    return {"name": "shop", "url": application.url, "secret": SECRET, "kinds": ["message"]} | changed


async def test_messages_of_the_rooms_of_a_webhook_are_told_in_order(serve: "Serve") -> None:
    manners = iter([Manner.FAIL, Manner.CLOSE])
    async with open_application(lambda: next(manners, Manner.TAKE)) as application:
        async with serve(webhooks=[table(application, rooms=["den*"])]) as served:
            for number in range(30):
                room = ("den", "den2", "other")[number % 3]
                placed = await served.broker.publish(room, {"type": "x", "n": number})
                assert placed.receipt.position is not None
            await served.broker.publish("den", {"type": "x"}, ephemeral=True)
            async with served.connect("/ws/den", "ann") as client:
                await client.receive("joined")
                await client.ask("ack", type="chat", text="hi", id=1)
            told = await wait_for(application, 21)
            metrics = (await served.http.get("/metrics")).text
        assert application.unsigned == []
        assert application.out_of_order == []
    numbers = [entry["content"]["n"] for entry in told[:20]]
    assert numbers == [number for number in range(30) if number % 3 != 2]
    last = told[-1]
    assert (last["room"], last["user"], last["content"]["text"]) == ("den", "ann", "hi")
    assert last["content"]["type"] == "chat"
    lines = [line for line in metrics.splitlines() if line.startswith("greenroom_webhook_failures_total")]
    assert all('webhook="shop"' in line for line in lines)
    counts = {line.partition('reason="')[2].partition('"')[0]: line.split()[-1] for line in lines}
    assert counts == {"connect": "0.0", "timeout": "0.0", "redirect": "0.0", "status": "1.0", "answer": "1.0"}


async def test_without_webhooks_there_are_no_metrics_of_them(serve: "Serve") -> None:
    async with serve() as served:
        assert "greenroom_webhook" not in (await served.http.get("/metrics")).text


async def test_a_page_that_is_reloaded_is_no_event(serve: "Serve") -> None:
    async with open_application() as patient, open_application() as hasty:
        kinds = ["message", "user_joined", "user_left", "room_occupied", "room_vacated"]
        kinds += ["user_online", "user_offline"]
        tables = [
            table(patient, name="patient", kinds=kinds, hold_back_seconds=3600),
            table(hasty, name="hasty", kinds=kinds, hold_back_seconds=0),
        ]
        async with serve(webhooks=tables) as served:
            for number in range(3):
                async with served.connect("/ws/den", "ann") as client:
                    await client.receive("joined")
                    await client.ask("ack", type="chat", text=str(number), id=number)
                # Each visit is over before the next one begins.
                await wait_for(hasty, 7 * number + 7)
            told = await wait_for(patient, 6)
            assert [entry["type"] for entry in await wait_for(hasty, 21)].count("user_left") == 3
    first, texts = told[:3], told[3:]
    assert sorted(entry["type"] for entry in first) == ["room_occupied", "user_joined", "user_online"]
    assert [(entry["type"], entry["content"]["text"]) for entry in texts] == [
        ("message", "0"),
        ("message", "1"),
        ("message", "2"),
    ]
    visits = [entry["type"] for entry in hasty.entries.values() if entry["type"] != "message"]
    assert all(visits.count(kind) == 3 for kind in kinds[1:])
    joined = next(entry for entry in told if entry["type"] == "user_joined")
    assert (joined["room"], joined["user"]) == ("den", "ann")
    occupied = next(entry for entry in told if entry["type"] == "room_occupied")
    assert (occupied["room"], occupied["user"]) == ("den", None)
    online = next(entry for entry in told if entry["type"] == "user_online")
    assert (online["room"], online["user"]) == (None, "ann")
