"""The interface of whatever makes spans. It knows no library: servers without traces import none.

A span is named by its `traceparent` (W3C Trace Context, section 3.2), which goes with an event in its header, over all
nodes, and with requests to the application.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum
from typing import Protocol, TypeAlias

Attributes: TypeAlias = Mapping[str, str | int]


class SpanKind(Enum):
    """The side of a request that a span is on."""

    SERVER = "server"
    CLIENT = "client"
    INTERNAL = "internal"


class Span(Protocol):
    """Something that takes time, until `end` is called. No method blocks."""

    @property
    def traceparent(self) -> str:
        """Its name, for those whom it calls."""
        ...

    @property
    def is_sampled(self) -> bool:
        """Whether it is exported; if not, its children are not either."""
        ...

    def note(self, name: str, value: str | int) -> None:
        """Set an attribute."""
        ...

    def fail(self, reason: str) -> None:
        """Note that it failed."""
        ...

    def end(self) -> None:
        """End it, once."""
        ...


class Tracer(Protocol):
    """Makes spans."""

    current: ContextVar[str | None]
    """The traceparent of the request that the present task handles, if that is sampled."""

    def start(
        self,
        name: str,
        kind: SpanKind = SpanKind.INTERNAL,
        *,
        parent: str | None = None,
        links: Sequence[str] = (),
        attributes: Attributes | None = None,
    ) -> Span:
        """Start a span, below `parent` or as the root of a trace; a traceparent that cannot be read counts as none."""
        ...


@contextmanager
def spanning(span: Span) -> Iterator[Span]:
    """End `span` with the block; it has failed if that raises."""
    try:
        yield span
    except BaseException as error:
        span.fail(type(error).__name__)
        raise
    finally:
        span.end()
