"""Waits for what the client must do in each step."""

import json
import math
from functools import partial

import msgspec
import trio

from broker.conformance.lines import Handed, HandedGap, Told
from broker.conformance.progress import Progress, text_of
from broker.conformance.room import ROOM, USER, with_id
from broker.conformance.server_steps import acknowledge
from broker.conformance.stage import FailedError, Peer, Stage, shorten
from broker.conformance.steps import (
    AnswersPing,
    Asks,
    ClientStep,
    Connects,
    Hands,
    HandsGap,
    Joins,
    Resolves,
    StaysAway,
    StaysOut,
    Tells,
)
from broker.errors import CloseCode
from broker.model import Position
from broker.protocol.commands import Chat, Publish

SOON_SHARE = 0.25
"""Time limit of a prompt step, as a share of the others."""

_GAP_LINE = 'the line {"gap": …}, as events are missing here'


async def expect(progress: Progress, step: ClientStep) -> None:  # noqa: C901  # one case for each step, checked by mypy
    """Wait for what the client must do in one step.

    :raises FailedError: if it does something else, or nothing in time.
    """
    stage = progress.stage
    match step:
        case Connects():
            await _expect_connection(progress, step)
        case Joins(returns, refused):
            await _expect_join(stage, returns=returns, refused=refused)
        case Hands(texts, may_tell_gap):
            for text in texts:
                await stage.until_connected(
                    partial(_find_event, stage, text, may_tell_gap), _event_line(text)
                )
        case HandsGap():
            await stage.until_connected(partial(_find_gap, stage), _GAP_LINE)
        case Asks(text):
            expected = f"a chat {text!r} with an id"
            progress.asked = await stage.until_connected(
                partial(_find_request, stage, text, expected), expected
            )
            progress.event = None
        case Resolves():
            await _expect_resolution(progress, step)
        case Tells():
            await stage.until(partial(_find_told, stage, step), _line_of(step), stage.timeout_seconds)
        case AnswersPing():
            await _expect_pong(stage)
        case StaysAway(seconds):
            await _expect_absence(stage, seconds, "no further connection", with_joins=False)
        case StaysOut(seconds):
            await _expect_absence(stage, seconds, "no further join and connection", with_joins=True)


async def _expect_connection(progress: Progress, step: Connects) -> None:
    stage = progress.stage
    expected = "a connection"
    within_seconds = stage.timeout_seconds * (SOON_SHARE if step.is_soon else 1)
    if step.is_silent:
        expected = "a new connection, as the server is silent"
        within_seconds = stage.silence_seconds

    def find() -> Peer | None:
        while stage.arrivals:
            peer = stage.arrivals.popleft()
            early_seconds = progress.delay_from + step.not_before_seconds - peer.connection.opened_at
            if step.not_before_seconds and early_seconds > 0:
                raise FailedError(
                    "a connection once the delay of the server has passed",
                    f"one {early_seconds:.1f} s earlier",
                )
            if peer.connection.ending is None:
                return peer
        return None

    stage.peer = await stage.until(find, expected, within_seconds)


async def _expect_join(stage: Stage, *, returns: bool, refused: str | None) -> None:
    expected = "a join"
    if returns and stage.seen is not None:
        expected = f"a join with since {msgspec.json.encode(stage.seen).decode()}"
    peer = stage.peer
    assert peer is not None, "a script lets it connect first"
    join = await stage.until_connected(lambda: peer.join, expected)
    since = None if join.since is None else Position(join.since.epoch, join.since.offset)
    if returns and stage.seen is not None:
        _check_since(expected, since, stage.seen)
    peer.join = None
    if refused is None:
        peer.is_member = True
        for message in stage.room.joined(since, join.id, join.last):
            await stage.send(message)
        await stage.send({"type": "user_joined", "room": ROOM, "user_id": USER, "room_size": 2})
    elif peer.is_by_address:
        await stage.close(peer, CloseCode.FORBIDDEN, refused)
    else:
        await stage.send(with_id({"type": "error", "code": refused, "message": "not this room"}, join.id))


def _check_since(expected: str, since: Position | None, seen: Position) -> None:
    if since is None:
        raise FailedError(expected, "a join without since")
    # An earlier one brings events again, which the client may know to pass over.
    if since.epoch != seen.epoch or since.offset > seen.offset:
        raise FailedError(expected, f"since {msgspec.json.encode(since).decode()}")


async def _expect_resolution(progress: Progress, step: Resolves) -> None:
    stage, first = progress.stage, progress.asked
    assert first is not None, "a script asks first"
    text = text_of(first)
    expected = f'the chat {text!r} again, or the line {{"stored": {text!r}}} or {{"refused": …}}'
    again: Chat | Publish | Told = await stage.until(
        partial(_find_outcome, stage, text, expected), expected, stage.timeout_seconds
    )
    is_stored = progress.event is not None
    if isinstance(again, Told):
        if again.kind == "stored" and not is_stored:
            raise FailedError(f"{expected}, which the server has refused", _told_line(again))
        return
    if step.same_id and again.id != first.id:
        raise FailedError(f"{expected}, with the id {first.id!r}", f"one with the id {again.id!r}")
    early_seconds = progress.delay_from + step.not_before_seconds - trio.current_time()
    if step.not_before_seconds and early_seconds > 0:
        raise FailedError(
            f"{expected}, once the delay of the server has passed", f"it {early_seconds:.1f} s earlier"
        )
    progress.asked = again
    await acknowledge(progress)
    if not is_stored:
        await stage.send(progress.store_asked())
        await expect(progress, Hands(text))
    await expect(progress, Tells(("stored",), text))


async def _expect_pong(stage: Stage) -> None:
    connection = stage.open_peer("an open connection, to be pinged").connection
    answered = connection.pongs
    await connection.ping()
    await stage.until_connected(
        lambda: connection.pongs > answered or None, "a pong with the content of the ping"
    )


async def _expect_absence(stage: Stage, seconds: float, expected: str, *, with_joins: bool) -> None:
    began_at = trio.current_time()

    def find() -> str | None:
        if stage.arrivals:
            return f"a connection after {stage.arrivals[0].connection.opened_at - began_at:.1f} s"
        if with_joins and stage.peer is not None and stage.peer.join is not None:
            return "a join"
        return None if stage.ending is None else ""

    with trio.move_on_after(seconds):
        came = await stage.until(find, expected, math.inf)
        if came:
            raise FailedError(f"{expected} for {seconds:g} s", came)


def _find_event(stage: Stage, text: str, may_tell_gap: bool) -> Handed | None:
    while stage.handed:
        line = stage.handed.popleft()
        if line == Handed(text):
            return Handed(text)
        if isinstance(line, Handed):
            raise FailedError(_event_line(text), _event_line(line.text))
        if not may_tell_gap:
            raise FailedError(_event_line(text), 'the line {"gap": …}, though no event is missing')
    return None


def _find_gap(stage: Stage) -> HandedGap | None:
    if not stage.handed:
        return None
    line = stage.handed.popleft()
    if isinstance(line, Handed):
        raise FailedError(_GAP_LINE, _event_line(line.text))
    return line


def _find_request(stage: Stage, text: str, expected: str) -> Chat | Publish | None:
    if not stage.requests:
        return None
    request = stage.requests.popleft()
    if not isinstance(request, Chat) or request.text != text or request.id is None:
        raise FailedError(expected, f"{text_of(request)!r} with the id {request.id!r}")
    return request


def _find_outcome(stage: Stage, text: str, expected: str) -> Chat | Publish | Told | None:
    for told in stage.told:
        if told.kind in {"stored", "refused"}:
            stage.told.remove(told)
            return told
    return _find_request(stage, text, expected)


def _find_told(stage: Stage, step: Tells) -> Told | None:
    for told in stage.told:
        if told.kind in step.kinds:
            stage.told.remove(told)
            if step.value is not None and told.value != step.value:
                raise FailedError(_line_of(step), _told_line(told))
            return told
    return None


def _event_line(text: str) -> str:
    return shorten(f'the line {{"event": {{"text": {json.dumps(text, ensure_ascii=False)}, …}}}}')


def _told_line(told: Told) -> str:
    return f'the line {{"{told.kind}": {json.dumps(told.value)}}}'


def _line_of(step: Tells) -> str:
    value = "…" if step.value is None else json.dumps(step.value)
    return "the line " + " or ".join(f'{{"{kind}": {value}}}' for kind in step.kinds)
