"""The members of a room on this node and on the others, and the notices that members here get about them."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

import attrs
import msgspec

from broker.engine.attendance import Attendance
from broker.engine.presence import PresenceBus, RemoteChange
from broker.model import Shown
from broker.notices import Notice
from broker.rooms.member import Member
from broker.rooms.presence.batch import PresenceBatch
from broker.rooms.presence.remote_members import Kind, MemberChange, RemoteMembers
from broker.rooms.presence.roster import Roster


@attrs.define
class RoomPresence:
    """The roster of this node, announced to the other nodes, and the members on those.

    Methods that return notices leave it to the caller to send them to all members here.
    """

    room: str
    roster: Roster
    batch: PresenceBatch
    bus: PresenceBus | None = None
    """Exchanges presence with other nodes; None for an engine of one node."""
    attendance: Attendance | None = None
    """Notes the users in the engine's book; None if it keeps none."""
    remote: RemoteMembers = attrs.Factory(RemoteMembers)
    shows_data: bool = True
    """Whether members are shown each other's info and state."""

    @property
    def size(self) -> int:
        """Users' connections in the room on all nodes: the `room_size` that clients see."""
        return self.roster.size + self.remote.size

    def users(self) -> tuple[tuple[str, int], ...]:
        """Return each user with the number of its connections."""
        if not self.remote.size:
            return self.roster.users()
        users = Counter(dict(self.roster.users()))
        users.update(self.remote.users())
        return tuple(users.items())

    def count_users(self) -> int:
        """Return the number of users."""
        here = self.roster.users()
        return (
            len({user_id for user_id, _ in here} | self.remote.users().keys())
            if self.remote.size
            else len(here)
        )

    def connections(self) -> Iterator[Shown]:
        """Iterate over all connections, those of this node first."""
        return chain(self.roster.connections(), self.remote)

    def infos(self) -> Mapping[str, bytes]:
        """Return the info of each user that shows one: that of its newest connection with an info, on any node."""
        newest: dict[str, Shown] = {}
        for shown in self.connections():
            if shown.info is not None:
                other = newest.get(shown.user_id)
                if other is None or _age_order(shown) > _age_order(other):
                    newest[shown.user_id] = shown
        return {user_id: shown.info for user_id, shown in newest.items() if shown.info is not None}

    def has_space(self, member: Member, max_members: int) -> bool:
        """Whether a member is in, or may join where `max_members` may be in.

        Members on other nodes count as far as those have told of them.
        """
        return self.size < max_members or not member.is_visible or member in self.roster

    def add(self, member: Member) -> bool:
        """Add a member to the roster; returns False if it was present already."""
        shown = member.shown
        if shown.info is not None and not self.shows_data:
            shown = msgspec.structs.replace(shown, info=None)
        return self.roster.add(member, shown)

    def note_joined(self, member: Member) -> list[Notice]:
        """Note that a visible member was added to the roster."""
        shown = self.roster.shown_by(member)
        assert shown is not None, "it was added"
        self._announce(shown.connection, shown)
        if self.attendance is not None and self.roster.connections_of(shown.user_id) == 1:
            self.attendance.came(self.room, shown.user_id, member.shown.info)
        return self.batch.joined(shown, self.size)

    def remove(self, member: Member) -> list[Notice]:
        """Remove a member from the roster, if it is present."""
        shown = self.roster.shown_by(member)
        if shown is None:
            return []
        self.roster.discard(member)
        if not member.is_visible:
            return []
        self._announce(shown.connection, None)
        if self.attendance is not None and not self.roster.connections_of(shown.user_id):
            self.attendance.left(self.room, shown.user_id)
        return self.batch.left(shown, self.size)

    def abandon(self) -> None:
        """Tell the engine that nobody is in the room any more, as its actor is gone for good."""
        if self.bus is not None:
            self.bus.clear(self.room)
        if self.attendance is not None:
            for user_id, _ in self.roster.users():
                self.attendance.left(self.room, user_id)

    def show_info(self, member: Member) -> list[Notice]:
        """Show the present info of a member, if it is in the roster."""
        shown = self.roster.shown_by(member)
        if shown is None or not self.shows_data:
            return []
        return self._update(member, shown, msgspec.structs.replace(shown, info=member.shown.info))

    def set_state(self, member: Member, state: bytes | None) -> list[Notice]:
        """Set the state of a member, if it is in the roster."""
        shown = self.roster.shown_by(member)
        if shown is None or not self.shows_data:
            return []
        return self._update(member, shown, msgspec.structs.replace(shown, state=state))

    def _update(self, member: Member, before: Shown, shown: Shown) -> list[Notice]:
        if shown == before:
            return []
        self.roster.set_shown(member, shown)
        if not member.is_visible:
            return []
        self._announce(shown.connection, shown)
        return self.batch.updated(shown, self.size)

    def take_batch(self) -> list[Notice]:
        """Empty the batch of joins, leaves and updates into notices."""
        return self.batch.take(self.size)

    def apply(self, change: RemoteChange) -> list[Notice] | None:
        """Apply a change of another node; None if a change before it was missed."""
        changes = self.remote.apply(change)
        return None if changes is None else self._notices_of(changes)

    async def read_remote_members(self) -> tuple[list[Notice], bool]:
        """Read the members on the other nodes; also returns whether to read again after one lease.

        :raises EngineUnavailableError: if they cannot be read.
        """
        if self.bus is None:
            return [], False
        changes, must_read_again = self.remote.replace(await self.bus.read_remote_presence(self.room))
        return self._notices_of(changes), must_read_again

    async def remove_elsewhere(self, user_id: str, *, has_members: bool) -> int:
        """Have the other nodes remove a user; returns its number of connections there.

        `has_members`: whether this node has members in the room, and so listens to the others.

        :raises EngineUnavailableError: if the request has not reached all of them.
        """
        if self.bus is None:
            return 0
        if not has_members:
            await self.load_remote_members()
        count = self.remote.users().get(user_id, 0)
        await self.bus.remove(self.room, user_id, listeners=len(self.remote.nodes) + has_members)
        return count

    async def load_remote_members(self) -> None:
        """Read the members on the other nodes anew, without notices: there are no members here to receive any.

        :raises EngineUnavailableError: if they cannot be read.
        """
        self.remote = RemoteMembers()
        if self.bus is not None:
            self.remote.replace(await self.bus.read_remote_presence(self.room))

    def forget_remote_members(self) -> None:
        """Forget the members on the other nodes, as their changes will not come in any more."""
        self.remote = RemoteMembers()

    def _announce(self, connection: str, shown: Shown | None) -> None:
        if self.bus is not None:
            self.bus.set_member(self.room, connection, shown)

    def _notices_of(self, changes: Sequence[MemberChange]) -> list[Notice]:
        notices: list[Notice] = []
        for change in changes:
            match change.kind:
                case Kind.JOINED:
                    note = self.batch.joined
                case Kind.LEFT:
                    note = self.batch.left
                case Kind.UPDATED:
                    note = self.batch.updated
            notices += note(change.shown, self.roster.size + change.size)
        return notices


def _age_order(shown: Shown) -> tuple[int, int, str]:
    # The ids of one node, of connections made in the same millisecond, end with rising numbers.
    return shown.since_ms, len(shown.connection), shown.connection
