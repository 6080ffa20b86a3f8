"""The room with code that `turns` measures: a counter, and messages that pass as they are."""

import msgspec

from broker.room_actors import Member, RoomActor, call


class Count(msgspec.Struct):
    """The state of a counter."""

    total: int = 0


class Counter(RoomActor[Count], pattern="turns.*"):
    """A counter; each call is a turn that changes its state."""

    @call
    async def add(self, sender: Member | None) -> int:  # noqa: ARG002
        """Count one, and return the total."""
        self.state.total += 1
        return self.state.total
