"""What those who asked a room for something are answered, behind all that was begun before."""

from collections.abc import Sequence

from actors import Reply
from broker.engine.base import Receipt
from broker.errors import EngineUnavailableError
from broker.notices import Acknowledged, Failed, Notice
from broker.rooms.member import Member
from broker.rooms.messages import (
    Inspect,
    Join,
    Publish,
    Published,
    ReadHistory,
    Remove,
    RoomMessage,
    SendHistory,
)
from broker.rooms.state import RoomState


def reply_to(state: RoomState, member: Member, *notices: Notice, reply: Reply[None] | None = None) -> None:
    """Begin to send a member something of its own; `reply` is answered once that is in its outbox."""

    def hand(member: Member) -> None:
        try:
            member.outbox.reply(*notices)
        finally:
            if reply is not None:
                reply.set(None)

    state.fanout.hand(member, hand)


def answer_published(state: RoomState, publishes: Sequence[Publish], receipts: Sequence[Receipt]) -> None:
    """Tell those who said something what became of it; the acks of one sender go out together."""
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


def answer_unavailable(state: RoomState, message: RoomMessage, error: EngineUnavailableError) -> None:
    """Tell who asked that the engine cannot serve.

    :raises EngineUnavailableError: if nobody has asked.
    """
    match message:
        case Join(reply=reply) | ReadHistory(reply=reply) | Inspect(reply=reply) | Remove(reply=reply):
            reply.fail(error)
        case Publish(sender=sender, request_id=request_id, reply=reply):
            if reply is not None:
                reply.fail(error)
            if sender is not None:
                state.fanout.note_unavailable()
                reply_to(state, sender, Failed(error.as_refused(), request_id))
        case SendHistory(member=member, request_id=request_id, reply=told):
            state.fanout.note_unavailable()
            reply_to(state, member, Failed(error.as_refused(), request_id), reply=told)
        case _:
            raise error
