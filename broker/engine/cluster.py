"""Questions between the nodes that share an engine, for monitoring."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import attrs

Answer: TypeAlias = Callable[[bytes], Awaitable[bytes]]


@attrs.frozen
class Answers:
    """The answers to a question to all other nodes."""

    given: Sequence[bytes] = ()
    silent: int = 0
    """How many nodes received it and did not answer in time."""


class Cluster(ABC):
    """Sends questions to the other nodes, and answers theirs. No delivery is guaranteed."""

    @abstractmethod
    def on_question(self, answer: Answer) -> None:
        """Set the callback that answers other nodes' questions; an empty answer is not sent."""

    @abstractmethod
    async def ask(self, question: bytes, *, patience_seconds: float) -> Answers:
        """Ask all other nodes, and wait for their answers; there are none while they cannot be reached."""
