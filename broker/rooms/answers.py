"""Answers of a room to requests, queued behind all notices that were queued before."""

from collections.abc import Sequence

from actors import Reply
from broker.engine.base import Receipt
from broker.errors import EngineUnavailableError, Refused
from broker.notices import Acknowledged, Failed, Notice
from broker.rooms.member import Member
from broker.rooms.messages import (
    AppendDone,
    Call,
    CatchUp,
    FeedEvents,
    ForCode,
    Inspect,
    Join,
    Leave,
    Publish,
    Published,
    ReadHistory,
    ReadRemoteMembers,
    RemoteChanged,
    Remove,
    RemoveHere,
    RoomMessage,
    SendHistory,
    SendPresence,
    SendPresenceBatch,
    SendQueued,
    SendWithheld,
    SetState,
    ShowInfo,
    TaskEnded,
    TimerDue,
)
from broker.rooms.state import RoomState


def reply_to(state: RoomState, member: Member, *notices: Notice, reply: Reply[None] | None = None) -> None:
    """Queue notices for one member; `reply` is answered once they are in its outbox."""

    def send(member: Member) -> None:
        try:
            member.outbox.reply(*notices)
        finally:
            if reply is not None:
                reply.set(None)

    state.fanout.queue_for(member, send)


def answer_published(state: RoomState, publishes: Sequence[Publish], receipts: Sequence[Receipt]) -> None:
    """Acknowledge publishes; the acks of one sender go out together."""
    acks: dict[Member, list[Notice]] = {}
    size = state.presence.size
    for publish, receipt in zip(publishes, receipts, strict=True):
        if publish.reply is not None:
            publish.reply.set(Published(receipt, size))
        if publish.sender is not None and publish.request_id is not None:
            ack = Acknowledged(state.name, receipt.position, publish.request_id)
            acks.setdefault(publish.sender, []).append(ack)
    for sender, notices in acks.items():
        reply_to(state, sender, *notices)


def answer_refused(state: RoomState, message: Publish | Call, refused: Refused) -> None:
    """Answer a request with a refusal."""
    if message.reply is not None:
        message.reply.fail(refused)
    if message.sender is not None:
        reply_to(state, message.sender, Failed(refused, message.request_id))


def answer_unavailable(state: RoomState, message: RoomMessage, error: EngineUnavailableError) -> None:
    """Answer a request with the engine's error.

    :raises EngineUnavailableError: if the message is no request.
    """
    match message:
        case Join() | ReadHistory() | Inspect() | Remove() | TimerDue():
            message.reply.fail(error)
        case Publish() | Call():
            if message.reply is not None:
                message.reply.fail(error)
            if message.sender is not None:
                state.fanout.note_unavailable()
                reply_to(state, message.sender, Failed(error.as_refused(), message.request_id))
        case SendHistory(member=member, request_id=request_id, reply=sent):
            state.fanout.note_unavailable()
            reply_to(state, member, Failed(error.as_refused(), request_id), reply=sent)
        case (
            Leave()
            | SendPresence()
            | ShowInfo()
            | SetState()
            | SendPresenceBatch()
            | AppendDone()
            | SendWithheld()
            | SendQueued()
            | FeedEvents()
            | RemoteChanged()
            | ReadRemoteMembers()
            | RemoveHere()
            | CatchUp()
            | TaskEnded()
            | ForCode()
        ):
            raise error
