"""Servers that are killed while users come and go: the book of the application has each entry, once and in order."""

import random
from collections.abc import Iterator
from pathlib import Path

import trio

from tests.durability.servers import TEST_SECONDS, serve
from tests.durability.visitors import Crowd, check, is_balanced
from tests.support.patience import PATIENCE_SECONDS
from tests.support.receiver import SECRET, Application, Manner, open_application
from tests.support.redis import RedisServer, redis

__all__ = ["redis"]

USERS = 5
KILLS = 2
BAD_MANNERS = (
    *(Manner.HANG, Manner.FAIL, Manner.REFUSE, Manner.REDIRECT),
    *(Manner.RUBBISH, Manner.CLOSE, Manner.CUT_OFF, Manner.ENDLESS),
)


def manners(seed: int) -> Iterator[Manner]:
    """Return how requests are answered: each bad manner once, never two in a row, as each makes a longer pause."""
    chance = random.Random(seed)
    for bad in chance.sample(BAD_MANNERS, len(BAD_MANNERS)):
        yield bad
        yield from chance.choices([Manner.TAKE, Manner.SLOW], k=chance.randrange(1, 6))
    while True:
        yield Manner.TAKE


def configure(folder: Path, application: Application) -> Path:
    """Write the configuration of a webhook that is told of everything."""
    kinds = [
        "message",
        "user_joined",
        "user_left",
        "room_occupied",
        "room_vacated",
        "user_online",
        "user_offline",
    ]
    config = folder / "greenroom.toml"
    config.write_text(
        f"""
        [[webhooks]]
        name = "shop"
        url = "{application.url}"
        secret = "{SECRET}"
        kinds = {kinds}
        hold_back_seconds = 0
        timeout_seconds = 2
        """
    )
    return config


async def wait_until_balanced(application: Application, crowd: Crowd) -> None:
    with trio.fail_after(PATIENCE_SECONDS):
        while not is_balanced(application, len(crowd.said)):
            await trio.sleep(0.02)


async def wait_said(crowd: Crowd, count: int) -> None:
    goal = len(crowd.said) + count
    while len(crowd.said) < goal:
        await trio.sleep(0.01)


async def test_a_server_on_sqlite_is_killed_again_and_again(tmp_path: Path) -> None:
    answers = manners(1)
    crowd, chance = Crowd(), random.Random(2)
    with trio.fail_after(TEST_SECONDS):
        async with open_application(lambda: next(answers)) as application, trio.open_nursery() as visitors:
            config = configure(tmp_path, application)
            for number in range(USERS):
                visitors.start_soon(crowd.visit, f"user{number}", random.Random(number))
            for _ in range(KILLS):
                async with serve(tmp_path / "rooms.db", config=config) as server:
                    crowd.servers = [server]
                    await wait_said(crowd, chance.randrange(5, 40))
                    crowd.servers = []
                    await server.kill()
            async with serve(tmp_path / "rooms.db", config=config) as server:
                crowd.servers = [server]
                await wait_said(crowd, 10)
                await crowd.end()
                await wait_until_balanced(application, crowd)
                await check(application, crowd, server, each_visit_counts=True)
    assert application.repeated > 0


async def test_the_node_that_delivers_is_killed_and_another_takes_over(
    tmp_path: Path, redis: RedisServer
) -> None:
    answers = manners(3)
    crowd = Crowd()
    options = {"engine": redis.url, "GREENROOM_REDIS__LEASE_SECONDS": "1"}
    with trio.fail_after(TEST_SECONDS):
        async with open_application(lambda: next(answers)) as application, trio.open_nursery() as visitors:
            options["config"] = configure(tmp_path, application)
            async with serve(tmp_path / "a", **options) as first:
                crowd.servers = [first]
                for number in range(USERS):
                    visitors.start_soon(crowd.visit, f"user{number}", random.Random(number))
                # It has the lease by then, so it keeps it.
                await wait_said(crowd, 10)
                while not application.entries:
                    await trio.sleep(0.01)
                async with serve(tmp_path / "b", **options) as second:
                    crowd.servers = [first, second]
                    await wait_said(crowd, 40)
                    crowd.servers = [second]
                    await first.kill()
                    await wait_said(crowd, 10)
                    await crowd.end()
                    await wait_until_balanced(application, crowd)
                    await check(application, crowd, second, each_visit_counts=False)
    assert application.repeated > 0
