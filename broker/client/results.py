"""Results of publishes."""

import attrs

from broker.client.errors import RefusedError


@attrs.frozen
class Published:
    """The position of a message. `offset` and `epoch` are None for an ephemeral one, which is not stored."""

    room: str
    offset: int | None
    epoch: str | None
    members: int
    """Connections in the room when it was published."""


@attrs.frozen
class Outcome:
    """The result of a broadcast in one room: `published` or `error` is None."""

    room: str
    published: Published | None
    error: RefusedError | None
