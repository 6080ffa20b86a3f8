"""`soak`: whether a server is after minutes of everything as it was before."""

import sys
import time
from contextlib import ExitStack
from random import Random

import attrs
import click
import httpx2
import trio

from bench import process
from bench.errors import BenchError
from bench.load.api import Api
from bench.machine import HOST, allow_connections
from bench.process import RunningServer
from bench.redis import running_redis
from bench.soak.nodes import drain_again_and_again, running_receiver, settings_file, spec_of
from bench.soak.readings import Reading, compare, is_empty, read
from bench.soak.visits import VISITS, World, repeat
from bench.spec import Credentials, ServerSpec

SETTLE_SECONDS = 120.0
"""How long it may take until a server without clients is empty."""

NODE_SECONDS = 8.0
"""How long the node beside the server under test runs before it is drained."""

_CONNECTIONS = 1000


@attrs.frozen
class Soak:
    """One soak of one server."""

    server: RunningServer
    beside: ServerSpec
    api: Api
    world: World

    async def load(self, seconds: float) -> None:
        """Make all visits, and drain the node beside it, for so long."""
        is_over = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drain_again_and_again, self.beside, self.world, is_over, NODE_SECONDS)
            for visit, number in VISITS.items():
                for _ in range(number):
                    nursery.start_soon(repeat, self.world, visit, is_over)
            await trio.sleep(seconds)
            is_over.set()

    async def settle(self) -> Reading:
        """Wait until nobody is there, and what was kept for a while has gone.

        :raises BenchError: if that takes too long.
        """
        deadline = time.monotonic() + SETTLE_SECONDS
        while not is_empty(reading := read(self.server.pid, self.api)):
            if time.monotonic() > deadline:
                raise BenchError(f"the server is not empty after {SETTLE_SECONDS:g} s: {dict(reading)}")
            await trio.sleep(0.5)
        # Kept connections, tasks that end, garbage.
        await trio.sleep(5)
        return read(self.server.pid, self.api)


async def _run(soak: Soak, *, warm_up: float, seconds: float) -> bool:
    await soak.load(warm_up)
    before = await soak.settle()
    soak.world.done.clear()
    await soak.load(seconds)
    after = await soak.settle()
    click.echo(", ".join(f"{what} {count}" for what, count in sorted(soak.world.done.items())))
    closes = sorted(soak.api.closes().items())
    click.echo(
        "the server closed, warm-up included: "
        + ", ".join(f"{count:g} with {code}" for code, count in closes)
    )
    rows = list(compare(before, after))
    for row in rows:
        click.echo(f"{row.name:<14} {row.before:8.1f} {row.after:8.1f}  {'' if row.is_back else 'MORE'}")
    return all(row.is_back for row in rows)


async def _soak(
    server: RunningServer, beside: ServerSpec, credentials: Credentials, **options: float
) -> bool:
    headers = {"Authorization": f"Bearer {credentials.api_key}"}
    url = f"http://{HOST}:{server.port}"
    async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=30) as http:
        world = World(credentials, http, [server.port], Random(1))
        soak = Soak(server, beside, Api(HOST, server.port, credentials.api_key), world)
        return await _run(soak, **options)


def _first(error: BaseException) -> BaseException:
    """Return the first error that the load ended with."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@click.command()
@click.option(
    "--minutes", type=click.FloatRange(0.05), default=10, show_default=True, help="Behind the warm-up."
)
@click.option("--warm-up", type=click.FloatRange(0), default=30, show_default=True, help="Seconds.")
def soak(minutes: float, warm_up: float) -> None:
    """Do to a server all that clients can do at once, and see whether it comes back to where it began.

    Churn, resets, half-open peers, slow readers, rooms that crash, histories, event streams, webhooks that fail, and a node
    beside it, over one Redis, that is drained again and again. The warm-up is the same; what the server holds behind
    it, with nobody there, is where it begins. Exit status 1 if it holds more in the end, by the bounds of
    bench/soak/readings.py.
    """
    allow_connections(_CONNECTIONS)
    credentials = Credentials.make()
    with ExitStack() as stack:
        file = stack.enter_context(settings_file(stack.enter_context(running_receiver())))
        redis = stack.enter_context(running_redis(core=None))
        under_test = spec_of("soak", ("bench.soak.server", str(file)), redis.url, credentials)
        beside = spec_of("beside", ("broker", "serve", "--config", str(file)), redis.url, credentials)
        server = stack.enter_context(process.running(under_test, core=None, stop_seconds=30))
        try:
            is_back = trio.run(
                lambda: _soak(server, beside, credentials, warm_up=warm_up, seconds=minutes * 60)
            )
        except BaseExceptionGroup as group:
            raise _first(group) from None
    click.echo("back where it began" if is_back else "not back where it began")
    sys.exit(0 if is_back else 1)
