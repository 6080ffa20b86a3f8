"""A publish in a small room whose engine appends without a wait, in a turn that the room lends to the sender."""

import trio

from broker.engine.base import Engine
from broker.notices import Acknowledged, RoomEvent
from broker.rooms.fanout import BULK_MEMBERS
from broker.rooms.messages import Publish, Published, RoomMessage
from broker.rooms.state import RoomOptions, RoomState


def publish_nowait(state: RoomState, engine: Engine, options: RoomOptions, message: RoomMessage) -> bool:
    """Publish, send and acknowledge at once; False, with nothing done, if the message has to take the mailbox."""
    if (
        not isinstance(message, Publish)
        or state.delivered is None
        or state.fanout.is_pending
        or len(state.roster) > BULK_MEMBERS
    ):
        return False
    began = trio.current_time()
    if not state.can_lend(began):
        return False
    receipt = engine.append_nowait(state.name, message.draft, options.retention, state.delivered)
    if receipt is None:
        return False
    if receipt.event is not None:
        if receipt.position is not None:
            state.delivered = receipt.position
        state.messages_sent += 1
        state.fanout.send_nowait(state.roster, RoomEvent(state.name, state.delivered.epoch, receipt.event))
    if message.reply is not None:
        message.reply.set(Published(receipt, state.presence.size))
    if message.sender is not None and message.request_id is not None:
        state.fanout.reply_nowait(
            message.sender, Acknowledged(state.name, receipt.position, message.request_id)
        )
    state.fanout.note_delay(1, began)
    return True
