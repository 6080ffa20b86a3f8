"""The shapes of what is known of a room with code: its class, state, timers, turns and last failure."""

from typing import Annotated

import msgspec
from msgspec import Meta

from broker.rooms.turn_tally import TurnKind

Milliseconds = Annotated[float, Meta(ge=0)]
UnixMs = Annotated[int, Meta(description="Unix milliseconds")]


class CodeState(msgspec.Struct, frozen=True):
    """The stored state of a room; of a room of which nothing is stored, the state that it begins with."""

    value: Annotated[msgspec.Raw, Meta(description="the state, as JSON")]
    bytes: int
    version: Annotated[int, Meta(description="`state_version` of the class when it was stored")]
    stored_by: Annotated[
        str | None, Meta(description="`state_name` of the class that stored it; null if nothing is stored")
    ]


class CodeTimer(msgspec.Struct, frozen=True):
    """A stored timer."""

    name: str
    due_time: UnixMs
    due_in_ms: Annotated[int, Meta(description="below 0 for one that is overdue")]


class CodeTurns(msgspec.Struct, frozen=True):
    """The turns of one kind since the room was started: their number by outcome, and their time without the storing."""

    kind: TurnKind
    done: int
    refused: int
    failed: int
    unavailable: int
    total_ms: Milliseconds
    longest_ms: Milliseconds


class CodeFailure(msgspec.Struct, frozen=True):
    """The last failure of a room; its traceback is in the log of the server."""

    time: UnixMs
    kind: TurnKind
    error: Annotated[str, Meta(description="type of the exception")]
    text: Annotated[str, Meta(description="text of the exception, at most 1,000 characters")]


class CodeInspection(msgspec.Struct, frozen=True):
    """A room with code of its own."""

    room: str
    class_name: Annotated[str, Meta(description="the Python class, with its module")]
    state_version: Annotated[int, Meta(description="`state_version` of the class")]
    is_running: Annotated[bool, Meta(description="whether the answering node has an instance of the class")]
    node: Annotated[str | None, Meta(description="the answering node, if it runs the room; else null")]
    owner: Annotated[
        str | None,
        Meta(description="with `redis://`, the id of the node that owns the room; null if there is none"),
    ]
    state: CodeState
    timers: Annotated[list[CodeTimer], Meta(description="the next one first")]
    turns: Annotated[list[CodeTurns], Meta(description="kinds without a turn are left out")]
    last_failure: Annotated[
        CodeFailure | None, Meta(description="on this node since its start; null if there was none")
    ]
