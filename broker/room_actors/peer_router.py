"""Brings the messages of other nodes to the rooms of this one, and those of its rooms to other nodes."""

from collections import OrderedDict, deque
from collections.abc import Sequence
from functools import partial
from itertools import count

import trio

from actors import ActorError
from broker.engine.peers import Peers
from broker.errors import EngineTrouble, EngineUnavailableError, GreenroomError
from broker.room_actors.peer_messages import (
    Answer,
    CallRequest,
    Done,
    FromOwner,
    GuestRequest,
    Item,
    JoinRequest,
    LeaveRequest,
    Moved,
    NotDone,
    NotSent,
    PeersBehind,
    Probe,
    PublishRequest,
    Said,
    Unavailable,
    pack_items,
    parse_items,
)
from broker.rooms.directory import Rooms
from broker.rooms.messages import RoomMessage

MOST_BACKLOG = 1024
"""Requests of other nodes that wait for a room to start, or for space in its mailbox; more are refused."""
BUSY_RETRY_MS = 1000
LOST_RETRY_MS = 200
"""Delay before a client repeats a request of which nobody knows whether it was done."""
MOST_PENDING = 16_384
"""Requests of other nodes to one room, without an answer, that are remembered."""


class PeerRouter:
    """Sends items in the order in which they are queued, those of one step of the loop to one node as one message."""

    def __init__(self, peers: Peers) -> None:
        self.numbers = count(1)
        """The numbers of requests and of their generations, which are unique on this node."""
        self._peers = peers
        self._queued: dict[tuple[str, str], list[Item]] = {}
        self._backlogs: dict[str, deque[GuestRequest]] = {}
        # For each room by node and number, the oldest first; whether the room has it.
        self._pending: dict[str, OrderedDict[tuple[str, int], bool]] = {}
        self._rooms: Rooms | None = None
        self._nursery: trio.Nursery | None = None
        self._token: trio.lowlevel.TrioToken | None = None

    async def serve_rooms(self, rooms: Rooms, *, task_status: trio.TaskStatus[None]) -> None:
        """Serve until cancelled; from then on requests of other nodes are sent back."""
        async with trio.open_nursery() as nursery:
            self._rooms, self._nursery = rooms, nursery
            self._token = trio.lowlevel.current_trio_token()
            self._peers.listen(self)
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    def queue(self, room: str, node: str, *items: Item) -> None:
        """Send items to a node, about a room, after this step of the loop."""
        if not items:
            return
        assert self._token is not None, "serve_rooms"
        if not self._queued:
            self._token.run_sync_soon(self._send_queued)
        self._queued.setdefault((room, node), []).extend(items)

    def _send_queued(self) -> None:
        queued, self._queued = self._queued, {}
        for (room, node), items in queued.items():
            requests = [
                each.number
                for each in items
                if isinstance(each, JoinRequest | LeaveRequest | PublishRequest | CallRequest)
            ]
            self._peers.send_nowait(room, node, pack_items(items), partial(self._note_sent, room, requests))

    def _note_sent(self, room: str, requests: Sequence[int], is_there: bool | None) -> None:
        if requests and not is_there:
            self._tell(room, NotSent(requests, is_certain=is_there is not None))

    def message_came(self, room: str, node: str, message: bytes) -> None:
        """See PeerListener."""
        try:
            items = parse_items(message)
        except ValueError:
            return  # of another program, or of a version that this one does not understand
        from_owner: list[Answer | Said] = []
        for item in items:
            match item:
                case JoinRequest() | LeaveRequest() | PublishRequest() | CallRequest():
                    self._take_request(room, GuestRequest(node, item, partial(self._answer, room, node)))
                case Probe(numbers):
                    pending = self._pending.get(room, ())
                    self.queue(
                        *(room, node), *(_lost(number) for number in numbers if (node, number) not in pending)
                    )
                case Done() | NotDone() | Unavailable() | Moved() | Said():
                    from_owner.append(item)
        if from_owner:
            self._tell(room, FromOwner(from_owner))

    def fell_behind(self) -> None:
        """See PeerListener."""
        assert self._rooms is not None, "serve_rooms"
        for load in self._rooms.loads():
            if self._rooms.has_code(load.room):
                self._tell(load.room, PeersBehind())

    def _tell(self, room: str, message: RoomMessage) -> None:
        assert self._rooms is not None, "serve_rooms"
        # Bounded by the requests of the room.
        self._rooms.tell_always(room, message)

    def _answer(self, room: str, node: str, answer: Answer) -> None:
        if pending := self._pending.get(room):
            pending.pop((node, answer.number), None)
            if not pending:
                del self._pending[room]
        self.queue(room, node, answer)

    def room_ended(self, room: str) -> None:
        """Answer the requests that a room had as it ended; it has answered them before, unless it was given up."""
        for (node, number), has_it in list(self._pending.get(room, {}).items()):
            if has_it:
                self._answer(room, node, _lost(number))

    def _take_request(self, room: str, request: GuestRequest) -> None:
        assert self._rooms is not None, "serve_rooms"
        if self._nursery is None:
            request.answer(Moved(request.request.number))
            return
        backlog = self._backlogs.get(room)
        pending = self._pending.setdefault(room, OrderedDict())
        if len(pending) >= MOST_PENDING:
            pending.popitem(last=False)
        key = request.node, request.request.number
        pending[key] = backlog is None and self._rooms.tell_nowait(room, request) is not None
        if backlog is None:
            if pending[key]:
                return
            self._backlogs[room] = backlog = deque()
            self._nursery.start_soon(self._tell_backlog, room, backlog)
        if len(backlog) >= MOST_BACKLOG:
            request.fail(_busy())
        else:
            backlog.append(request)

    async def _tell_backlog(self, room: str, backlog: deque[GuestRequest]) -> None:
        """Bring requests to a room in their order, once it has started and has space."""
        assert self._rooms is not None, "serve_rooms"
        while backlog:
            request = backlog.popleft()
            try:
                await self._rooms.tell(room, request)
                self._note_taken(room, request)
            except EngineUnavailableError as error:
                request.fail(error)
            except (GreenroomError, ActorError):
                request.fail(_busy())
        del self._backlogs[room]

    def _note_taken(self, room: str, request: GuestRequest) -> None:
        key = request.node, request.request.number
        if (pending := self._pending.get(room)) and key in pending:
            pending[key] = True


def _lost(number: int) -> Unavailable:
    return Unavailable(number, EngineTrouble.ROOM_MOVED, LOST_RETRY_MS)


def _busy() -> EngineUnavailableError:
    return EngineUnavailableError(
        "the room has too much to do", trouble=EngineTrouble.ROOM_MOVED, retry_after_ms=BUSY_RETRY_MS
    )
