"""The article's `POST /orders/{id}/status`, in a service beside the server and with the rooms in the same process.

The shops are programs as a reader of the README would write them; each is started by its command in `examples/README.md`.
"""

import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import httpx2
import pytest
import trio

from broker.client import ClosedError, connect
from broker.signatures import sign
from tests.support.patience import PATIENCE_SECONDS
from tests.support.programs import COMMANDS, EXAMPLES, run_example
from tests.support.receiver import SECRET as WEBHOOK_SECRET
from tests.support.secrets import API_KEY, SECRET
from tests.support.served import Served

HOOK_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SECRETS = {"GREENROOM_SECRET": SECRET, "GREENROOM_API_KEY": API_KEY}


def test_all_examples_have_a_command() -> None:
    programs = {path.stem for path in EXAMPLES.glob("*.py")} | {path.stem for path in EXAMPLES.glob("*.mjs")}
    assert set(COMMANDS) == programs


async def order_is_shipped_and_the_customer_hears(server: str, shop: str) -> None:
    async with httpx2.AsyncClient(base_url=shop, timeout=PATIENCE_SECONDS) as http:

        async def token() -> str:
            answer = await http.get("/token")
            assert answer.headers["content-type"].startswith("text/plain")
            return answer.raise_for_status().text

        with trio.fail_after(PATIENCE_SECONDS):
            page = await http.get("/")
            assert page.headers["content-type"].startswith("text/html")
            assert page.text == (EXAMPLES / "page.html").read_text()
            async with connect(server, token=token) as client, client.join("user_7") as room:
                answer = await http.post("/orders/5/status", params={"status": "shipped"})
                assert answer.json() == {"order_id": "5", "status": "shipped"}, answer.text
                async for message in room:
                    if message["type"] == "order_update":
                        assert (message["order_id"], message["status"]) == ("5", "shipped")
                        assert message["offset"] == 1
                        return


@pytest.fixture(params=["shop_django", "shop_express", "shop_fastapi", "shop_flask"])
def shop(request: pytest.FixtureRequest) -> str:
    if request.param == "shop_express":
        request.getfixturevalue("node_modules")
    else:
        pytest.importorskip(request.param.removeprefix("shop_"))
    return request.param


async def test_a_service_beside_the_server(serve, shop):
    if shop == "shop_express":
        async with serve() as served:
            with run_example(shop, GREENROOM_URL=served.url, **SECRETS) as (address, _):
                await order_is_shipped_and_the_customer_hears(served.url, address)
        return
    async with open_relay() as (url, relay_to):
        webhook = {"name": "shop", "url": f"{url}/webhooks", "secret": WEBHOOK_SECRET, "hold_back_seconds": 0}
        hook = {"on": ["join", "call"], "rooms": ["order-*"], "url": f"{url}/hook", "secret": HOOK_SECRET}
        async with serve(webhooks=[webhook], hooks=[hook | {"timeout_seconds": 60}]) as served:
            environ = {
                "GREENROOM_URL": served.url,
                "WEBHOOK_SECRET": WEBHOOK_SECRET,
                "HOOK_SECRET": HOOK_SECRET,
            }
            with run_example(shop, **environ, **SECRETS) as (address, _):
                relay_to(int(address.rpartition(":")[2]))
                await order_is_shipped_and_the_customer_hears(served.url, address)
                await the_shop_is_told_who_is_online(served, address)
                await the_shop_lets_customers_into_the_rooms_of_their_orders(served, address)


async def the_shop_is_told_who_is_online(served: Served, shop: str) -> None:
    async with httpx2.AsyncClient(base_url=shop, timeout=PATIENCE_SECONDS) as http:

        async def wait_online(*users: str) -> None:
            with trio.fail_after(PATIENCE_SECONDS):
                while (await http.get("/online")).raise_for_status().json() != list(users):
                    await trio.sleep(0.05)

        async with served.connect("/ws/lobby", "8"), served.connect("/ws", "9"):
            await wait_online("8", "9")
        await wait_online()
        body = b'[{"id":"1","type":"user_online","user":"mallory"}]'
        forged = sign("msg_1", int(time.time()), body, [b"another key of at least 24 bytes"])
        for headers in ({}, forged):
            assert (await http.post("/webhooks", content=body, headers=headers)).status_code == 401
        await wait_online()


async def the_shop_lets_customers_into_the_rooms_of_their_orders(served: Served, shop: str) -> None:
    async with served.connect("/ws", "7") as customer:
        assert (await customer.ask("joined", type="join", room="order-5"))["room"] == "order-5"
        refused = await customer.ask("error", type="join", room="order-6")
        assert (refused["code"], refused["message"]) == ("forbidden", "not your order")
        result = await customer.ask("result", type="call", room="order-5", method="order_status", id=1)
        assert result == {"type": "result", "id": 1, "data": "shipped"}
        refused = await customer.ask("error", type="call", room="order-5", method="cancel", id=2)
        assert (refused["code"], refused["message"]) == ("forbidden", "no such method")
    async with served.connect("/ws/order-5", "8") as stranger:
        assert await stranger.close_code() == (4003, "not your order")
    # A question of somebody else is not answered.
    question = {"type": "join", "room": "order-5", "user_id": "7"}
    assert (await served.http.post(f"{shop}/hook", json=question)).status_code == 401


@asynccontextmanager
async def open_relay() -> AsyncIterator[tuple[str, Callable[[int], None]]]:
    """Pass connections on to a port that is not known yet; gives an address, and what tells the port."""
    ports: list[int] = []

    async def copy(source: trio.SocketStream, sink: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for data in source:
                await sink.send_all(data)
            await sink.send_eof()

    async def pass_on(stream: trio.SocketStream) -> None:
        # Until then a connection is closed, as by an application that is starting; and behind its end.
        if not ports:
            return
        try:
            other = await trio.open_tcp_stream("127.0.0.1", ports[0])
        except OSError:
            return
        async with other, trio.open_nursery() as both:
            both.start_soon(copy, stream, other)
            both.start_soon(copy, other, stream)

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, pass_on, 0, host="127.0.0.1"))
        yield f"http://127.0.0.1:{listener.socket.getsockname()[1]}", ports.append
        nursery.cancel_scope.cancel()


async def test_a_shop_with_its_rooms_inside_makes_up_its_secrets():
    with run_example("shop_quart") as (address, _):
        await order_is_shipped_and_the_customer_hears(address, address)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
async def test_a_shop_with_its_rooms_inside_sends_its_customers_away(how):
    with run_example("shop_quart", **SECRETS) as (address, process):
        with trio.fail_after(PATIENCE_SECONDS):
            async with httpx2.AsyncClient(timeout=PATIENCE_SECONDS) as http:
                token = (await http.get(f"{address}/token")).text
            async with (
                connect(address, token=token, reconnects=False) as client,
                client.join("user_7") as room,
            ):
                process.send_signal(how)
                with pytest.raises(ClosedError, match="service restart"):
                    async for _ in room:
                        pass
            assert await trio.to_thread.run_sync(process.wait) == 0
