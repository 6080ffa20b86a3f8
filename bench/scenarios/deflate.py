"""`deflate`: what permessage-deflate saves in bytes and costs in CPU, beside the same server without it."""

import json
import random
import statistics
from collections.abc import Sequence
from contextlib import ExitStack

import click

from bench import machine, process
from bench.load.client import Clients
from bench.load.plan import Crowd, make_targets
from bench.load.speaking import Speaking
from bench.servers import SERVERS
from bench.spec import Credentials
from bench.usage import on_core

SIZES = (64, 256, 1024, 4096, 16_384)
_TEXTS = 20
_VOCABULARY = (
    "the of and to in is you that it he was for on are as with his they at be this have from or one had by word but not "
    "what all were we when your can said there use an each which she do how their if will up other about out many then"
)


@click.command()
@click.option("--connections", type=click.IntRange(2, 20_000), default=200, show_default=True)
@click.option("--rooms", type=click.IntRange(1, 10_000), default=20, show_default=True)
@click.option(
    "--messages",
    type=click.IntRange(1, 1_000_000),
    default=100,
    show_default=True,
    help="Of each room and size.",
)
@click.option(
    "--size",
    "sizes",
    type=click.IntRange(1, 32_768),
    multiple=True,
    default=SIZES,
    show_default=True,
    help="Of a text.",
)
@click.option(
    "--repeats", type=click.IntRange(1, 100), default=3, show_default=True, help="Of both, in turn."
)
@click.option("--pin/--no-pin", default=True, show_default=True, help="Give servers and clients a core each.")
def deflate(
    *, connections: int, rooms: int, messages: int, sizes: Sequence[int], repeats: int, pin: bool
) -> None:
    """Count bytes and server CPU of a delivery with permessage-deflate and without.

    Both servers run at once, and are loaded in turn: a member of each room speaks, and goes on once all have the
    message. The texts are of common words, no two of them the same.
    """
    pins, crowd, credentials = machine.choose_pins(pin=pin), Crowd(connections, rooms, 1), Credentials.make()
    with ExitStack() as stack:
        stack.enter_context(on_core(pins.generator))
        loads: list[Speaking] = []
        for name in ("greenroom", "greenroom_deflate"):
            server = stack.enter_context(process.running(SERVERS[name](credentials), core=pins.server))
            clients = stack.enter_context(
                Clients(process.HOST, server.port, offers_deflate=name == "greenroom_deflate")
            )
            load = Speaking(server, clients, [seat.room for seat in crowd.seats()])
            load.join(make_targets(crowd, secret=credentials.secret))
            loads.append(load)
        click.echo("text bytes   bytes per delivery   ratio   CPU-us per delivery   ratio")
        for size in sizes:
            click.echo(_row(size, [_run_all(loads, _texts(size), messages) for _ in range(repeats)]))


def _run_all(loads: Sequence[Speaking], texts: Sequence[bytes], messages: int) -> list[tuple[float, float]]:
    """Return bytes and CPU-microseconds of a delivery for each."""
    figures = []
    for load in loads:
        before = load.clients.received_bytes()
        microseconds = 1e6 / load.run(texts, messages)
        figures.append(
            ((load.clients.received_bytes() - before) / (len(load.rooms) * messages), microseconds)
        )
    return figures


def _row(size: int, runs: Sequence[Sequence[tuple[float, float]]]) -> str:
    (plain_bytes, plain_cpu), (small_bytes, small_cpu) = (
        [statistics.median(run[at][kind] for run in runs) for kind in (0, 1)] for at in (0, 1)
    )
    ratio = statistics.median(run[1][1] / run[0][1] for run in runs)
    return (
        f"{size:10,}   {plain_bytes:8,.0f} {small_bytes:9,.0f}   {small_bytes / plain_bytes:5.2f}"
        f"   {plain_cpu:9.1f} {small_cpu:9.1f}   {ratio:5.2f}"
    )


def _texts(size: int) -> list[bytes]:
    """Return messages, each with a text of that size."""
    words, choice = _VOCABULARY.split(), random.Random(size)
    texts = (" ".join(choice.choices(words, k=size))[:size] for _ in range(_TEXTS))
    return [json.dumps({"type": "chat", "text": text}).encode() for text in texts]
