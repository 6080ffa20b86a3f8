"""Questions to all other nodes that share the engine, and to the other workers of this machine."""

import attrs
import trio

from broker.http.services import HttpServices


@attrs.define
class OthersAnswers:
    """The packed answers of the others; a worker may have answered in two ways."""

    packed: list[bytes] = attrs.Factory(list)
    silent: int = 0
    """How many did not answer in time. A blocked worker is missing in both ways."""


async def ask_others(services: HttpServices, question: bytes) -> OthersAnswers:
    """Ask all of them at once, for `http.nodes_seconds`. Workers of this machine are reached without the engine."""
    answers = OthersAnswers()
    patience_seconds = services.settings.http.nodes_seconds

    async def ask_siblings() -> None:
        if services.siblings is not None:
            others = services.siblings.others
            given = await services.siblings.ask(others, question, patience_seconds=patience_seconds)
            answers.packed += given.values()
            answers.silent = max(answers.silent, len(others) - len(given))

    async def ask_cluster() -> None:
        cluster = services.engine.cluster
        if cluster is not None:
            given = await cluster.ask(question, patience_seconds=patience_seconds)
            answers.packed += given.given
            answers.silent = max(answers.silent, given.silent)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask_siblings)
        nursery.start_soon(ask_cluster)
    return answers
