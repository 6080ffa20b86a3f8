"""The article's `POST /orders/{id}/status`, in a service beside the server and with the rooms in the same process.

The shops are programs as a reader of the README would write them; each is started by its command in `examples/README.md`.
"""

import signal

import httpx2
import pytest
import trio

from broker.client import ClosedError, connect
from tests.support.patience import PATIENCE_SECONDS
from tests.support.programs import COMMANDS, EXAMPLES, run_example
from tests.support.secrets import API_KEY, SECRET

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
    async with serve() as served:
        with run_example(shop, GREENROOM_URL=served.url, **SECRETS) as (address, _):
            await order_is_shipped_and_the_customer_hears(served.url, address)


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
