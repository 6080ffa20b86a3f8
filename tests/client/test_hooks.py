"""The reasons of an application whose hooks refuse something, as the Python client raises them in either event loop."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import pytest
import trio

from broker.client import ClosedError, RefusedError, connect
from broker.hooks import Hook
from broker.testing import RunningBroker, running_broker


async def decide(question: Mapping[str, Any]) -> dict[str, Any]:
    """Refuse the user `eve`, the room `closed` and each message that says or is named `bad`."""
    match question["type"]:
        case "connect":
            return {"allow": question["user_id"] != "eve", "reason": "your account is closed"}
        case "join":
            return {"allow": question["room"] != "closed", "reason": "the order is paid"}
        case _:
            message = question["message"]
            return {
                "allow": "bad" not in {message.get("text"), message.get("event")},
                "reason": "mind your words",
            }


@pytest.fixture(scope="module")
def broker() -> Iterator[RunningBroker]:
    with running_broker(hooks=[Hook(decide, ["connect", "join", "publish"])]) as running:
        yield running


@pytest.mark.parametrize("run", [trio.run, asyncio.run], ids=["trio", "asyncio"])
def test_a_refusal_of_the_application_is_raised_with_its_reason(
    broker: RunningBroker, run: Callable[..., Any]
) -> None:
    async def main() -> None:
        async with connect(broker.url, token=broker.token("ann")) as client, client.join("lobby") as room:

            async def enter() -> None:
                async with client.join("closed"):
                    pass

            refused: list[tuple[Callable[[], Awaitable[object]], str]] = [
                (enter, "the order is paid"),
                (lambda: room.chat("bad"), "mind your words"),
                (lambda: room.publish("bad", 1), "mind your words"),
            ]
            for attempt, reason in refused:
                with pytest.raises(RefusedError) as refusal:
                    await attempt()
                assert (refusal.value.code, refusal.value.message) == ("forbidden", reason)
                assert reason in str(refusal.value)
            await room.chat("the others go on")
        states = []
        async with connect(broker.url, token=broker.token("eve"), on_state=states.append) as client:
            with pytest.raises(ClosedError) as closed:
                async with client.join("lobby"):
                    pass
        assert (closed.value.code, closed.value.reason) == (4003, "your account is closed")
        assert str(closed.value) == "your account is closed (4003)"
        assert states[-1].kind == "closed"

    run(main) if run is trio.run else run(main())
