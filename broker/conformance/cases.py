"""The cases: for each, the rule of the reference that it tests, and its script."""

from collections.abc import Iterator

import attrs

from broker.conformance.room import OTHER_USER, ROOM
from broker.conformance.steps import (
    Acknowledge,
    AnswersPing,
    Asks,
    BeginEpoch,
    Close,
    Connects,
    Cut,
    Echo,
    FallSilent,
    Forget,
    Hands,
    HandsGap,
    Joins,
    Keep,
    Reconnect,
    Refuse,
    RefuseAll,
    Remove,
    Resolves,
    Say,
    Send,
    Skip,
    StaysAway,
    StaysOut,
    Step,
    Store,
    Tells,
    Wait,
    Withhold,
)
from broker.errors import CloseCode, ErrorCode

REQUEST = "say: "
"""A chat that begins so asks the client to send the rest of it as a chat of its own."""

QUIET_SECONDS = 3.0
"""How long a client that must not come back is watched: three times the first backoff."""
MISSED = tuple(f"{number} {'.' * 1200}" for number in range(600))
"""Texts that fill a page of 512 KiB, and some more."""

ENTER: tuple[Step, ...] = (Connects(), Joins())
RETURN: tuple[Step, ...] = (Connects(), Joins(returns=True))
ASK_FOR_HI: tuple[Step, ...] = (Say(f"{REQUEST}hi"), Hands(f"{REQUEST}hi"), Asks("hi"))
END: tuple[Step, ...] = (Say("the end"), Hands("the end"))
"""Whatever the client hands twice, it hands before this."""


@attrs.frozen
class Case:
    """One script, and the rule that a client breaks which does not survive it."""

    name: str
    rule: str
    """A sentence of docs/reference.md."""
    steps: tuple[Step, ...]


def _case(name: str, rule: str, *parts: Step | tuple[Step, ...]) -> Case:
    return Case(name, rule, tuple(_flat(parts)))


def _flat(parts: tuple[Step | tuple[Step, ...], ...]) -> Iterator[Step]:
    for part in parts:
        yield from part if isinstance(part, tuple) else (part,)


CASES = (
    # The first, as it takes longest.
    _case(
        "silence",
        "A connection that is cut off without a word shows itself by silence alone.",
        ENTER,
        FallSilent(),
        Store("missed"),
        Connects(is_silent=True),
        Joins(returns=True),
        Hands("missed"),
    ),
    _case(
        "chat",
        "Publishes the text `T` in the room.",
        ENTER,
        Say("hello"),
        Hands("hello"),
        ASK_FOR_HI,
        Acknowledge(),
        Echo(),
        Hands("hi"),
        Tells(("stored",), "hi"),
        END,
    ),
    _case(
        "event-before-ack",
        "The `ack` of a request and its own event may arrive in either order.",
        ENTER,
        ASK_FOR_HI,
        Echo(),
        Hands("hi"),
        Acknowledge(),
        Tells(("stored",), "hi"),
        END,
    ),
    _case(
        "unknown-type",
        "so may types, fields and codes that a client does not know, which it passes over.",
        ENTER,
        Send({"type": "weather", "room": ROOM, "temperature": 3}),
        Send({"type": "tide", "level": [{"of": None}]}),
        Send({"type": "order.shipped", "order": 5}, is_event=True),
        END,
    ),
    _case(
        "unknown-field",
        "Unknown fields are ignored.",
        ENTER,
        Send(
            {"type": "chat", "user_id": OTHER_USER, "text": "with more", "mood": {"of": ["kit"]}},
            is_event=True,
        ),
        Hands("with more"),
        END,
    ),
    _case(
        "unknown-error",
        "A request may have an `id` (a string of up to 128 characters, or a 64-bit integer); its reply or its `error` has the same `id`.",
        ENTER,
        ASK_FOR_HI,
        Refuse("out_of_ink"),
        Tells(("refused",), "out_of_ink"),
        END,
    ),
    _case(
        "drop",
        "A client that returns with its last offset and epoch misses no event",
        ENTER,
        Cut(),
        Store("missed 1", "missed 2"),
        RETURN,
        Hands("missed 1", "missed 2"),
        END,
    ),
    _case(
        "no-repeats",
        "misses no event and receives none twice, as long as the history holds the missed ones.",
        ENTER,
        Say("live 1", "live 2"),
        Hands("live 1", "live 2"),
        Cut(),
        Store("missed"),
        RETURN,
        Hands("missed"),
        Cut(),
        RETURN,
        END,
    ),
    _case(
        "gap",
        "If some of them are no longer held, or they exceed `history.recovery_bytes`, `messages` is empty and `recovered` is false",
        ENTER,
        Cut(),
        Store("lost"),
        Forget(),
        RETURN,
        HandsGap(),
        Cut(),
        Store("missed"),
        RETURN,
        Hands("missed"),
        END,
    ),
    _case(
        "gap-live",
        "the events with these offsets were not written to this connection",
        ENTER,
        Say("live"),
        Hands("live"),
        Skip(3),
        HandsGap(),
        Say("after the gap"),
        Hands("after the gap"),
    ),
    _case(
        "withheld",
        "Without a filter each such event has one `withheld`, in its place.",
        ENTER,
        Withhold(),
        Say("live"),
        Hands("live"),
        Withhold(),
        Cut(),
        Withhold(is_away=True),
        Store("missed"),
        RETURN,
        Hands("missed"),
        END,
    ),
    _case(
        "epoch-live",
        "The epoch of a room may change on a live connection",
        ENTER,
        Say("of the old epoch"),
        Hands("of the old epoch"),
        BeginEpoch(),
        Say("of the new epoch"),
        Hands("of the new epoch", may_tell_gap=True),
        Cut(),
        Store("missed"),
        RETURN,
        Hands("missed"),
    ),
    _case(
        "epoch-return",
        "on a `since` of another epoch everything from the oldest event held may be missing.",
        ENTER,
        Cut(),
        BeginEpoch(),
        Store("not sent"),
        RETURN,
        HandsGap(),
        Cut(),
        Store("missed"),
        RETURN,
        Hands("missed"),
        END,
    ),
    _case(
        "drain",
        "After a `reconnect` a client connects again when `after_ms` have passed since its arrival, not before",
        ENTER,
        Reconnect(2500),
        Wait(1.0),
        Close(CloseCode.SERVICE_RESTART, "service restart"),
        Store("missed"),
        Connects(not_before_seconds=2.4, is_soon=True),
        Joins(returns=True),
        Hands("missed"),
    ),
    _case(
        "stop",
        "The first attempt follows within a second or so, since a server that has stopped is usually back soon.",
        ENTER,
        Close(CloseCode.GOING_AWAY, "going away"),
        Connects(is_soon=True),
        Joins(),
        END,
    ),
    _case(
        "reconnect-codes",
        "41xx, and every code below 4000 but 1000: reconnect, with backoff and jitter.",
        ENTER,
        Close(CloseCode.INTERNAL_ERROR, "a fault of the server"),
        ENTER,
        Close(CloseCode.TOO_SLOW, "reads too slowly"),
        ENTER,
        Close(4199, "a code of a later version"),
        ENTER,
        END,
    ),
    _case(
        "backoff",
        "reconnect, with backoff and jitter",
        ENTER,
        Close(CloseCode.TRY_AGAIN_LATER, "try again later"),
        # With full jitter up to 1, 2, 4 and then 5 s, eleven attempts in 5 s have a chance of 4 in a million.
        RefuseAll(CloseCode.TRY_AGAIN_LATER, seconds=5.0, at_most=10),
        ENTER,
        END,
    ),
    _case(
        "token-refused",
        "unauthorized: token missing, malformed, expired, wrong signature, wrong audience",
        Connects(),
        Close(CloseCode.UNAUTHORIZED, "the token is malformed"),
        StaysAway(QUIET_SECONDS),
        Tells(("closed",), int(CloseCode.UNAUTHORIZED)),
    ),
    _case(
        "token-expired",
        "the token expired during the connection",
        ENTER,
        Close(CloseCode.TOKEN_EXPIRED, "token expired"),
        Store("missed"),
        RETURN,
        Hands("missed"),
    ),
    _case(
        "final-code",
        "40xx: do not reconnect.",
        ENTER,
        Close(4042, "a code of a later version"),
        StaysAway(QUIET_SECONDS),
        Tells(("closed",), 4042),
    ),
    _case(
        "normal-close",
        "every code below 4000 but 1000",
        ENTER,
        Close(CloseCode.NORMAL),
        StaysAway(QUIET_SECONDS),
        Tells(("closed",), int(CloseCode.NORMAL)),
    ),
    _case(
        "room-refused",
        '`{"type":"error","code","message","id"?,"retry_after_ms"?}`; the connection stays open.',
        Connects(),
        Joins(refused=ErrorCode.FORBIDDEN),
        StaysOut(QUIET_SECONDS),
        Tells(("refused", "closed")),
    ),
    _case(
        "removed",
        "the application removed this user from the room",
        ENTER,
        Say("live"),
        Hands("live"),
        Remove(),
        StaysOut(QUIET_SECONDS),
        Tells(("left", "closed")),
    ),
    _case(
        "rate-limited",
        "`after_ms`, `retry_after_ms` and `expires_in_ms` count from the arrival of the message",
        ENTER,
        ASK_FOR_HI,
        Refuse(ErrorCode.RATE_LIMITED, retry_after_ms=2000),
        Resolves(not_before_seconds=1.9),
        END,
    ),
    _case(
        "cut-before-ack",
        "the same `id` from the same user to the same room within 5 minutes (setting) is acknowledged again with the first offset, and published once.",
        ENTER,
        ASK_FOR_HI,
        Keep(),
        Cut(),
        RETURN,
        Hands("hi"),
        Resolves(same_id=True),
        END,
    ),
    _case(
        "fragments",
        "A message may come in fragments, and in pieces of any size",
        ENTER,
        Say("in fragments: Grüße, 你好, 🙂", frames="fragments"),
        Hands("in fragments: Grüße, 你好, 🙂"),
        Say("byte by byte: Grüße, 你好, 🙂", frames="bytes"),
        Hands("byte by byte: Grüße, 你好, 🙂"),
        END,
    ),
    _case(
        "pause",
        "The server pings a connection that is silent for `websocket.ping_seconds` (25)",
        ENTER,
        Wait(6.0),
        AnswersPing(),
        END,
    ),
    _case(
        "large-history",
        "`joined` has the first of them and the position of the last of these, and the others follow one by one before any live event.",
        ENTER,
        Cut(),
        Store(*MISSED),
        RETURN,
        Say("live"),
        Hands(*MISSED, "live"),
    ),
)
