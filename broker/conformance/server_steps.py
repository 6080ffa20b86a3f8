"""Does what the server does in each step."""

import math

import trio

from broker.conformance.progress import Progress
from broker.conformance.room import OTHER_USER, ROOM, Message, with_id
from broker.conformance.stage import FailedError, Stage
from broker.conformance.steps import (
    Acknowledge,
    BeginEpoch,
    Close,
    Cut,
    Echo,
    FallSilent,
    Forget,
    Keep,
    Reconnect,
    Refuse,
    RefuseAll,
    Remove,
    Say,
    Send,
    ServerStep,
    Skip,
    Store,
    Wait,
    Withhold,
)
from broker.errors import CloseCode


async def act(progress: Progress, step: ServerStep) -> None:  # noqa: C901, PLR0912  # one case for each step, checked by mypy
    """Do one step of the server.

    :raises FailedError: if the client has ended the connection that it needs.
    """
    stage, room = progress.stage, progress.stage.room
    match step:
        case Say(texts, frames):
            for text in texts:
                await stage.send(room.store(_chat(text)), frames)
        case Store(texts):
            for text in texts:
                room.store(_chat(text))
        case Send(message, is_event):
            await stage.send(room.store(dict(message)) if is_event else dict(message))
        case Skip(count):
            await _skip(stage, count)
        case Withhold(is_away):
            withheld = room.withhold()
            if not is_away:
                await stage.send(withheld)
        case Forget():
            room.forget()
        case BeginEpoch():
            room.begin_epoch()
        case Remove():
            await _remove(stage)
        case Reconnect(after_ms):
            progress.delay_from = trio.current_time()
            await stage.send({"type": "reconnect", "after_ms": after_ms})
        case Cut():
            peer = stage.open_peer("an open connection, to be cut")
            stage.note("server", "cuts the connection")
            await peer.connection.cut()
        case Close(code, reason):
            await _close(stage, code, reason)
        case FallSilent():
            stage.open_peer("an open connection, to fall silent").connection.is_silent = True
            stage.note("server", "falls silent")
        case Wait(seconds):
            await trio.sleep(seconds)
        case Keep():
            progress.store_asked()
        case Acknowledge():
            await acknowledge(progress)
        case Echo():
            await stage.send(progress.store_asked())
        case Refuse():
            await _refuse(progress, step)
        case RefuseAll():
            await _refuse_all(stage, step)


async def acknowledge(progress: Progress) -> None:
    """Send the `ack` of the client's last chat, which is stored if it is not yet."""
    assert progress.asked is not None, "a script asks first"
    event = progress.store_asked()
    ack: Message = {"type": "ack", "room": ROOM, "offset": event["offset"], "epoch": event["epoch"]}
    seen = progress.stage.seen
    await progress.stage.send(with_id(ack, progress.asked.id))
    # An ack is no event: the client's position is that before it.
    progress.stage.seen = seen


async def _skip(stage: Stage, count: int) -> None:
    first = stage.room.offset + 1
    for number in range(count):
        stage.room.store(_chat(f"not sent {number}"))
    await stage.send({"type": "gap", "room": ROOM, "from": first, "to": stage.room.offset})
    stage.seen = stage.room.position


async def _remove(stage: Stage) -> None:
    """Remove the client: a connection to the room's address is closed, another one stays open."""
    peer = stage.open_peer("an open connection, to remove the client from the room")
    peer.is_member = False
    if peer.is_by_address:
        await stage.close(peer, CloseCode.REMOVED, "removed")
    else:
        await stage.send({"type": "left", "room": ROOM})


async def _close(stage: Stage, code: int, reason: str) -> None:
    peer = stage.open_peer(f"an open connection, to be closed with {code}")
    if code == CloseCode.TOKEN_EXPIRED:
        stage.expire_tokens()
    await stage.close(peer, code, reason)


async def _refuse(progress: Progress, step: Refuse) -> None:
    assert progress.asked is not None, "a script asks first"
    error: Message = {"type": "error", "code": step.code, "message": "refused by the conformance kit"}
    if step.retry_after_ms is not None:
        error["retry_after_ms"] = step.retry_after_ms
    progress.delay_from = trio.current_time()
    await progress.stage.send(with_id(error, progress.asked.id))


async def _refuse_all(stage: Stage, step: RefuseAll) -> None:
    count = 0
    expected = (
        f"at most {step.at_most} connections in {step.seconds:g} s that are all closed with {step.code}"
    )
    with trio.move_on_after(step.seconds):
        while True:
            peer = await stage.until(
                lambda: stage.arrivals.popleft() if stage.arrivals else None, expected, math.inf
            )
            count += 1
            if count > step.at_most:
                raise FailedError(expected, "more")
            await stage.close(peer, step.code, "try again later")


def _chat(text: str) -> Message:
    return {"type": "chat", "user_id": OTHER_USER, "text": text}
