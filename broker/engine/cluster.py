"""What nodes that share an engine ask each other, for those who look after them."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import attrs

Answer: TypeAlias = Callable[[bytes], Awaitable[bytes]]


@attrs.frozen
class Answers:
    """What came back from a question to all other nodes."""

    given: Sequence[bytes] = ()
    silent: int = 0
    """How many nodes heard it and did not answer in time."""


class Cluster(ABC):
    """Brings questions to the other nodes, and theirs to this one. Nothing depends on an answer."""

    @abstractmethod
    def on_question(self, answer: Answer) -> None:
        """Let `answer` be called with each question of another node; what it returns is brought back, unless empty."""

    @abstractmethod
    async def ask(self, question: bytes, *, patience_seconds: float) -> Answers:
        """Ask all other nodes; without a way to them there are no answers."""
