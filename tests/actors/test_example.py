"""The example in the package's docstring runs as it stands."""

import textwrap

import pytest

import actors

EXAMPLE = """\
import attrs
import trio
from actors import Actor, Reply, open_supervisor

@attrs.frozen
class Total:
    reply: Reply[int]

class Counter(Actor[int | Total]):
    def __init__(self) -> None:
        self.total = 0

    async def receive(self, message: int | Total) -> None:
        match message:
            case int():
                self.total += message
            case Total(reply):
                reply.set(self.total)

async def main() -> None:
    async with open_supervisor() as supervisor:
        counter = await supervisor.start(Counter, name="counter")
        counter.tell_nowait(3)
        await counter.tell(4)
        print(await counter.ask(Total))  # 7

trio.run(main)
"""


def test_the_example_counts(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(EXAMPLE, "example", "exec"), {"__name__": "example"})
    assert capsys.readouterr().out == "7\n"


def test_the_docstring_shows_this_very_example() -> None:
    assert actors.__doc__ is not None
    assert textwrap.indent(EXAMPLE, "    ") in actors.__doc__
