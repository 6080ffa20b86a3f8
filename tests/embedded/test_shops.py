"""The article's `POST /orders/{id}/status`, in a service beside the server and with the rooms in the same process.

The shops are programs as a reader of the README would write them; each runs as a process of its own.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx2
import pytest
import trio

from broker.auth.mint import mint_token
from broker.client import ClosedError, connect
from tests.support.patience import PATIENCE_SECONDS
from tests.support.secrets import API_KEY, SECRET

EXAMPLES = Path(__file__).parents[2] / "examples"
PORT = "0"

SHOPS = {
    "shop_flask": ["-m", "flask", "--app", "shop_flask", "run", "--port", PORT],
    "shop_django": ["-m", "hypercorn", "wsgi:shop_django:application", "--bind", f"127.0.0.1:{PORT}"],
    "shop_fastapi": ["-m", "hypercorn", "shop_fastapi:app", "--bind", f"127.0.0.1:{PORT}"],
}
"""How each service is run beside the server; any server of WSGI or ASGI does."""


@asynccontextmanager
async def running(arguments: list[str], **environ: str) -> AsyncIterator[tuple[str, trio.Process]]:
    """Run a program among the examples, from when it says where it listens; gives that address, and the process."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("GREENROOM_")}
    root = str(Path(__file__).parents[2])
    process = await trio.lowlevel.open_process(
        [sys.executable, "-u", *arguments],
        cwd=EXAMPLES,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # A group of its own: hypercorn's worker is a process that outlives the killed parent.
        start_new_session=True,
        env={**others, "PYTHONPATH": root, "GREENROOM_API_KEY": API_KEY, **environ},
    )
    assert process.stdout is not None
    try:
        said = b""
        with trio.fail_after(PATIENCE_SECONDS):
            while b"\n" not in said.partition(b"http://127.0.0.1:")[2]:
                received = await process.stdout.receive_some()
                assert received, said.decode()
                said += received
        port = said.partition(b"http://127.0.0.1:")[2].split()[0].decode()
        yield f"http://127.0.0.1:{port}", process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with trio.CancelScope(shield=True):
            await process.wait()
            await process.stdout.aclose()


def token(user_id: str) -> str:
    return mint_token(secret=SECRET, algorithm="HS256", user_id=user_id, ttl_seconds=60, now=time.time())


async def order_is_shipped_and_the_customer_hears(server: str, shop: str) -> None:
    with trio.fail_after(PATIENCE_SECONDS):
        async with (
            connect(server, token=token("7")) as client,
            client.join("user_7") as room,
            httpx2.AsyncClient(base_url=shop, timeout=PATIENCE_SECONDS) as http,
        ):
            answer = await http.post("/orders/5/status", params={"status": "shipped"})
            assert answer.json() == {"order_id": "5", "status": "shipped"}, answer.text
            async for message in room:
                if message["type"] == "order_update":
                    assert (message["order_id"], message["status"]) == ("5", "shipped")
                    assert message["offset"] == 1
                    return


@pytest.mark.parametrize("shop", SHOPS)
async def test_a_service_beside_the_server(serve, shop):
    if shop != "shop_flask":
        pytest.importorskip(shop.removeprefix("shop_"))
    async with serve() as served:
        environ = {"GREENROOM_URL": served.url, "GREENROOM_SECRET": SECRET}
        async with running(SHOPS[shop], **environ) as (address, _):
            await order_is_shipped_and_the_customer_hears(served.url, address)


INSIDE = {
    "GREENROOM_SECRET": SECRET,
    "GREENROOM_SERVER__PORT": "0",
    "GREENROOM_SERVER__DRAIN_SECONDS": "0.2",
}


async def test_a_shop_with_its_rooms_inside():
    async with running(["shop_quart.py"], **INSIDE) as (address, _):
        await order_is_shipped_and_the_customer_hears(address, address)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
async def test_a_shop_with_its_rooms_inside_sends_its_customers_away(how):
    async with running(["shop_quart.py"], **INSIDE) as (address, process):
        with trio.fail_after(PATIENCE_SECONDS):
            async with (
                connect(address, token=token("7"), reconnects=False) as client,
                client.join("user_7") as room,
            ):
                process.send_signal(how)
                with pytest.raises(ClosedError, match="service restart"):
                    async for _ in room:
                        pass
            assert await process.wait() == 0
