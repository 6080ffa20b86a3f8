"""The work of a small room in the turns that it lends, on the sender's stack.

A publish, where the engine appends without a wait: appended, sent and acknowledged at once. Where the engine answers
later: only begun, and answered in the turn that the reply borrows (see PendingAppend). An arrival of the feed: sent at
once if it is the next. Each does nothing and returns False if the message has to take the mailbox.
"""

from collections.abc import Callable
from functools import partial

from broker.engine.base import Engine, Receipt
from broker.errors import EngineUnavailableError
from broker.notices import Acknowledged, Failed, RoomEvent
from broker.rooms.fanout import BULK_MEMBERS
from broker.rooms.feed_order import order_feed_events
from broker.rooms.messages import FeedEvents, Publish, Published, RoomMessage
from broker.rooms.pending_append import PendingAppend
from broker.rooms.state import RoomOptions, RoomState


def publish_nowait(
    state: RoomState,
    engine: Engine,
    options: RoomOptions,
    publish: Publish,
    tell: Callable[[RoomMessage], None],
) -> bool:
    """Publish, or begin to; `tell` sends the room a message, even if its mailbox is full."""
    if not _is_small_and_ready(state):
        return False
    began = state.clock()
    if state.pending_append is not None or not state.can_lend(began):
        return False
    assert state.delivered is not None
    if engine.feed is not None:
        return _begin_append(state, engine, options, PendingAppend(publish, began), tell)
    receipt = engine.append_nowait(state.name, publish.draft, options.retention, state.delivered)
    if receipt is None:
        return False
    if receipt.event is not None:
        if receipt.position is not None:
            state.delivered = receipt.position
        state.messages_sent += 1
        state.fanout.send_nowait(state.roster, (RoomEvent(state.name, state.delivered.epoch, receipt.event),))
    _answer(state, publish, began, receipt)
    return True


def _begin_append(
    state: RoomState,
    engine: Engine,
    options: RoomOptions,
    pending: PendingAppend,
    tell: Callable[[RoomMessage], None],
) -> bool:
    # Without a subscription there are no members here, and those elsewhere are counted for the answer.
    if not state.subscription.is_open or not engine.append_soon(
        state.name, pending.publish.draft, options.retention, partial(pending.note_done, tell)
    ):
        return False
    state.pending_append = pending
    return True


def answer_append_nowait(state: RoomState) -> bool:
    """Answer the publish whose append is done, if that is not done yet."""
    pending = state.pending_append
    if pending is None or pending.result is None:
        return True
    if state.fanout.is_pending:
        return False
    state.pending_append = None
    _answer(state, pending.publish, pending.began, pending.result)
    return True


def deliver_nowait(state: RoomState, arrival: FeedEvents) -> bool:
    """Send the events of the feed, if nothing is missing before them."""
    if not _is_small_and_ready(state) or not state.subscription.is_open or not state.can_lend(state.clock()):
        return False
    assert state.delivered is not None
    deliverable = order_feed_events(state.delivered, (arrival,))
    if deliverable.rest:
        return False
    state.subscription.note_handled(arrival)
    state.delivered = deliverable.position
    if deliverable.events:
        state.messages_sent += len(deliverable.events)
        notices = [RoomEvent(state.name, arrival.epoch, event) for event in deliverable.events]
        state.fanout.send_nowait(state.roster, notices)
    return True


def _is_small_and_ready(state: RoomState) -> bool:
    return (
        state.delivered is not None
        and not state.fanout.is_pending
        and state.roster.recipients <= BULK_MEMBERS
    )


def _answer(
    state: RoomState, publish: Publish, began: float, result: Receipt | EngineUnavailableError
) -> None:
    """Answer a publish as `answers` does, at once: nothing is queued."""
    if isinstance(result, EngineUnavailableError):
        if publish.reply is not None:
            publish.reply.fail(result)
        if publish.sender is not None:
            state.fanout.note_unavailable()
            state.fanout.reply_nowait(publish.sender, Failed(result.as_refused(), publish.request_id))
        return
    if publish.reply is not None:
        publish.reply.set(Published(result, state.presence.size))
    if publish.sender is not None and publish.request_id is not None:
        acknowledged = Acknowledged(state.name, result.position, publish.request_id)
        state.fanout.reply_nowait(publish.sender, acknowledged)
    state.fanout.note_delay(1, began)
