"""The queues of webhooks over HTTP, and by `greenroom webhooks`."""

import json

import pytest
import trio
from click.testing import CliRunner

from broker.cli import main
from tests.http.conftest import World
from tests.support.receiver import SECRET
from tests.support.secrets import API_KEY
from tests.support.secrets import SECRET as TOKEN_SECRET

WEBHOOKS = [
    {
        "name": "shop",
        # Nobody listens there.
        "url": "http://127.0.0.1:1/",
        "secret": SECRET,
        "kinds": ["message"],
        "rooms": ["lobby"],
        "give_up_seconds": 5,
    },
    {"name": "audit", "url": "http://127.0.0.1:1/", "secret": SECRET},
]


async def put_aside(world: World, count: int) -> None:
    """Publish messages, and wait until the webhook "shop" has given up on them."""
    for number in range(count):
        await world.say("lobby", number)
    world.clock[0] += 10
    listed: list[dict] = []

    async def look() -> None:
        while not listed or listed[0]["aside"] != count:
            listed[:] = (await world.client.get("/api/webhooks")).json()["webhooks"]

    with trio.fail_after(60):
        await look()


@pytest.fixture
async def with_webhooks(open_world):
    async with open_world(webhooks=WEBHOOKS) as world:
        yield world


async def test_entries_put_aside_are_listed_and_repeated(with_webhooks: World) -> None:
    world = with_webhooks
    fresh = {"waiting": 0, "oldest_time": None, "aside": 0, "dropped": 0}
    listed = (await world.client.get("/api/webhooks")).json()
    assert listed == {"webhooks": [{"name": "shop", **fresh}, {"name": "audit", **fresh}]}
    await put_aside(world, 3)
    page = (await world.client.get("/api/webhooks/shop/aside?limit=2")).json()
    assert len(page["entries"]) == 2
    rest = (await world.client.get("/api/webhooks/shop/aside", params={"cursor": page["cursor"]})).json()
    assert rest["cursor"] is None
    entries = [item["entry"] for item in page["entries"] + rest["entries"]]
    assert [entry["content"]["n"] for entry in entries] == [0, 1, 2]
    assert {item["reason"] for item in rest["entries"]} == {"connection refused"}
    assert rest["entries"][0]["put_aside_time"] == world.clock[0] * 1000
    url = "/api/webhooks/shop/repeat"
    chosen = {"ids": [entries[1]["id"], "other-7"]}
    assert (await world.client.post(url, json=chosen)).json() == {"repeated": 1}
    assert (await world.client.post(url, json={"all": True})).json() == {"repeated": 2}
    shop, _ = (await world.client.get("/api/webhooks")).json()["webhooks"]
    assert shop == {
        "name": "shop",
        "waiting": 3,
        "oldest_time": world.clock[0] * 1000,
        "aside": 0,
        "dropped": 0,
    }


async def test_what_cannot_be_asked_is_refused(with_webhooks: World) -> None:
    client = with_webhooks.client
    for name in ("none", "..", "sh%6Fp2", "Shop"):
        assert (await client.get(f"/api/webhooks/{name}/aside")).status_code == 404
        assert (await client.post(f"/api/webhooks/{name}/repeat", json={"all": True})).status_code == 404
    for query in ("cursor=x", "cursor=1", "limit=0", "limit=1001", "after=1"):
        assert (await client.get(f"/api/webhooks/shop/aside?{query}")).status_code == 400, query
    for body in (
        {},
        {"ids": []},
        {"ids": ["a"], "all": True},
        {"ids": "a"},
        {"all": False},
        {"al": True},
        [],
    ):
        response = await client.post("/api/webhooks/shop/repeat", json=body)
        assert response.status_code == 400, body


async def test_without_webhooks_none_are_listed(world: World) -> None:
    assert (await world.client.get("/api/webhooks")).json() == {"webhooks": []}
    assert (await world.client.get("/api/webhooks/shop/aside")).status_code == 404


async def command(world: World, *words: str, status: int = 0) -> str:
    """Run `greenroom webhooks` in a thread; returns what it prints."""
    environ = {
        "GREENROOM_API_KEY": API_KEY,
        "GREENROOM_SECRET": TOKEN_SECRET,
        "GREENROOM_URL": world.served.url,
    }
    run = lambda: CliRunner().invoke(main, ["webhooks", *words], env=environ)  # noqa: E731
    ended = await trio.to_thread.run_sync(run)
    assert ended.exit_code == status, ended.output
    return ended.stdout if status == 0 else ended.output


async def test_the_command_lists_and_repeats(with_webhooks: World) -> None:
    world = with_webhooks
    await put_aside(world, 3)
    rows = [json.loads(line) for line in (await command(world)).splitlines()]
    assert [row["webhook"] for row in rows] == ["shop", "audit"]
    assert (rows[0]["waiting"], rows[0]["oldest_seconds"], rows[0]["aside"]) == (0, None, 3)
    items = [json.loads(line) for line in (await command(world, "aside", "shop")).splitlines()]
    assert [item["entry"]["content"]["n"] for item in items] == [0, 1, 2]
    ids = [item["entry"]["id"] for item in items]
    assert await command(world, "repeat", "shop", ids[0], ids[0], "other-1") == "1\n"
    away = ("--url", "http://127.0.0.1:1")
    assert await command(world, *away, "repeat", "shop", "--all", "--url", world.served.url) == "2\n"
    assert await command(world, "aside", "shop") == ""
    assert "waiting" in await command(world)
    refused = await command(world, "aside", "none", status=1)
    assert refused == "greenroom: the server answered with status 404: there is no webhook of this name\n"
    assert "cannot connect" in await command(world, *away, status=1)
    assert "--all" in await command(world, "repeat", "shop", status=2)
    assert "--all" in await command(world, "repeat", "shop", "--all", ids[0], status=2)


async def test_the_command_asks_in_parts(with_webhooks: World, monkeypatch) -> None:
    monkeypatch.setattr("broker.cli.webhooks.PAGE_ENTRIES", 2)
    monkeypatch.setattr("broker.cli.webhooks.MOST_IDS", 2)
    await put_aside(with_webhooks, 5)
    items = [json.loads(line) for line in (await command(with_webhooks, "aside", "shop")).splitlines()]
    assert len(items) == 5
    ids = [item["entry"]["id"] for item in items]
    assert await command(with_webhooks, "repeat", "shop", *ids) == "5\n"
