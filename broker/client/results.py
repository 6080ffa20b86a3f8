"""What publishers return."""

import attrs

from broker.client.errors import RefusedError


@attrs.frozen
class Published:
    """Where a message is now. `offset` and `epoch` are None for an ephemeral one, which is in no history."""

    room: str
    offset: int | None
    epoch: str | None
    members: int
    """Connections in the room when it was said."""


@attrs.frozen
class Outcome:
    """What became of a broadcast in one room: one of the two is None."""

    room: str
    published: Published | None
    error: RefusedError | None
