"""The reasons of an application whose hooks refuse something, as the Python client raises them in either event loop."""

import asyncio
import base64
import json
import secrets
import threading
from collections.abc import Awaitable, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import trio

from broker.client import ClosedError, RefusedError, connect
from broker.config.settings import HookSettings, Settings
from broker.testing.running import RunningBroker, running_broker


class Application(BaseHTTPRequestHandler):
    """Refuses the user `eve`, the room `closed` and each message that says or is named `bad`."""

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = json.dumps(decide(question)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def decide(question: dict[str, Any]) -> dict[str, Any]:
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
    with ThreadingHTTPServer(("127.0.0.1", 0), Application) as listener:
        thread = threading.Thread(target=listener.serve_forever)
        thread.start()
        hook = HookSettings(
            on=("connect", "join", "publish"),
            url=f"http://127.0.0.1:{listener.server_address[1]}",
            secret="whsec_" + base64.b64encode(secrets.token_bytes(32)).decode(),
            timeout_seconds=30,
        )
        with running_broker(Settings(hooks=(hook,))) as running:
            yield running
        listener.shutdown()
        thread.join()


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
