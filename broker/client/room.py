"""A joined room, the application's interface."""

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, overload

import attrs
import msgspec
from msgspec import UNSET

from broker.client.effects import Message
from broker.client.errors import ClientError, NotSentError
from broker.model import Position

if TYPE_CHECKING:
    from broker.client.client import Client

T = TypeVar("T")


@attrs.frozen
class Presence:
    """The users in a room."""

    room_size: int
    """Connections."""
    users: dict[str, int]
    """Connections of each user, by user id."""
    infos: dict[str, Any] = attrs.Factory(dict)
    """The info of each user that shows one, by user id: the claim of its token."""


@attrs.frozen
class MemberConnection:
    """One connection in a room, and what it shows; None for nothing."""

    user_id: str
    connection: str | None
    """None for a connection on a server of an earlier version, which names none."""
    info: Any = None
    state: Any = None


@attrs.frozen
class History:
    """Some of a room's events, and the room's position."""

    messages: list[Message]
    position: Position


class Room:
    """A room that this client is in; made by `Client.join`.

    Iterating gives the room's messages as the protocol has them, each with its `type`: first `joined` (without
    its `messages`, which follow one by one), then `chat`, `event`, `user_joined`, `user_left`, `presence_changed`,
    `presence_update`, `gap` and those of the application. After a lost connection `joined` comes again, before the messages that were
    missed. Stored events come in order and once; if some may be missing, `recovered` of that `joined` is false, or a
    `gap` names them. Presence and ephemeral events are not stored and are lost with a connection; `joined` then has
    the size of the room.
    """

    def __init__(self, name: str, client: "Client") -> None:
        self.name = name
        self._client = client

    @property
    def position(self) -> Position | None:
        """Position of the last event read; `join(since=…)` continues from it."""
        return self._client.position(self.name)

    @property
    def joined(self) -> Message:
        """The last `joined`, without its messages."""
        return self._client.joined(self.name)

    def __aiter__(self) -> AsyncIterator[Message]:
        return self

    async def __anext__(self) -> Message:
        """Wait for the next message; if cancelled, none is lost.

        :raises RemovedError: once this user was removed from the room and all messages before were read.
        :raises ClosedError: once the client has ended and all messages before were read.
        """
        return await self._client.next_message(self.name)

    async def chat(
        self,
        text: str,
        *,
        id: str | None = None,  # noqa: A002  # the protocol's word
        tags: Mapping[str, str] | None = None,
        echo: bool = True,
    ) -> Position:
        """Send a text; returns its position once it is stored.

        `tags` are for members that joined with a filter. Without `echo` it does not come back to this connection.

        It is stored once, however often the connection is lost or the server refuses it temporarily. With your own `id`
        that holds even if you call again after an error, within the server's window (5 minutes by default); it must
        be new for each text. If cancelled, it may or may not be stored.

        :raises NotSentError: if it is no text.
        :raises ClientError: see `Client.ask`.
        """
        if not isinstance(text, str):
            raise NotSentError(f"text: a text, not {type(text).__name__}")
        return await self._say({"type": "chat", "text": text} | _choice(tags, echo=echo), id)

    async def publish(
        self,
        event: str,
        data: Any,
        *,
        id: str | None = None,  # noqa: A002
        tags: Mapping[str, str] | None = None,
        echo: bool = True,
    ) -> Position:
        """Publish any JSON value under an event name; otherwise like `chat`."""
        message = {"type": "publish", "event": event, "data": data} | _choice(tags, echo=echo)
        return await self._say(message, id)

    async def publish_ephemeral(
        self, event: str, data: Any, *, tags: Mapping[str, str] | None = None, echo: bool = True
    ) -> None:
        """Publish an event that is not stored; returns once the server has accepted it.

        It is sent again if the server refuses it temporarily, but not if the connection is lost.

        :raises ConnectionLostError: if so.
        :raises ClientError: see `Client.ask`.
        """
        message = {"type": "publish", "room": self.name, "event": event, "data": data, "ephemeral": True}
        await self._client.ask(message | _choice(tags, echo=echo), "once")

    @overload
    async def call(self, method: str, data: Any = UNSET, *, id: str | None = None) -> Any: ...

    @overload
    async def call(
        self, method: str, data: Any = UNSET, *, id: str | None = None, result_type: type[T]
    ) -> T: ...

    async def call(
        self,
        method: str,
        data: Any = UNSET,
        *,
        id: str | None = None,  # noqa: A002
        result_type: type[Any] | None = None,
    ) -> Any:
        """Call a method of the room with any JSON value, or none; returns the answer of the application.

        With `result_type` the answer is converted by `msgspec.convert`: a struct, an attrs class or a dataclass, say.
        The call is sent again with the same `id` after a lost connection and a temporary refusal, and the application may
        then be asked twice.

        :raises RefusedError: if the application refuses, with its reason; also where nothing answers calls.
        :raises ClientError: see `Client.ask`; also for an answer that is not of `result_type`.
        """
        message: Message = {"type": "call", "room": self.name, "method": method}
        if data is not UNSET:
            message["data"] = data
        if id is not None:
            message["id"] = id
        answer = (await self._client.ask(message))["data"]
        if result_type is None:
            return answer
        try:
            return msgspec.convert(answer, result_type, str_keys=True)
        except msgspec.ValidationError as error:
            raise ClientError(f"the answer to {method}: {error}") from None

    async def presence(self) -> Presence:
        """Ask for the users in the room.

        :raises ClientError: see `Client.ask`.
        """
        answer = await self._client.ask({"type": "presence", "room": self.name}, "ask")
        users = answer["users"]
        return Presence(
            answer["room_size"],
            {user["user_id"]: user["connections"] for user in users},
            {user["user_id"]: user["info"] for user in users if "info" in user},
        )

    async def connections(self) -> list[MemberConnection]:
        """Ask for the connections in the room, with the info and the state of each.

        :raises ClientError: see `Client.ask`; also from a server of an earlier version, which lists users only.
        """
        answer = await self._client.ask({"type": "presence", "room": self.name, "by": "connection"}, "ask")
        if "connections" not in answer:
            raise ClientError("the server is of an earlier version, which lists users only")
        return [
            MemberConnection(each["user_id"], each.get("connection"), each.get("info"), each.get("state"))
            for each in answer["connections"]
        ]

    async def set_state(self, state: Any) -> None:
        """Show the room's members any JSON value beside this connection, None for nothing; the latest one counts.

        A new connection shows nothing: set the state again at each `joined`.

        :raises ClientError: see `Client.ask`.
        """
        await self._client.ask({"type": "set_state", "room": self.name, "state": state}, "ask")

    async def history(
        self, *, since: Position | None = None, limit: int | None = None, reverse: bool = False
    ) -> History:
        """Ask for events that are held: those after `since`, else the oldest, or (`reverse`) the newest first.

        At most `limit`, and 1000 (the server's setting). A `withheld` is in the place of events that this connection does
        not get; it counts for the limit as they do.

        :raises ClientError: see `Client.ask`.
        """
        message: Message = {"type": "history", "room": self.name, "reverse": reverse}
        if since is not None:
            message["since"] = {"offset": since.offset, "epoch": since.epoch}
        if limit is not None:
            message["limit"] = limit
        answer = await self._client.ask(message, "ask")
        return History(answer["messages"], Position(answer["epoch"], answer["offset"]))

    async def _say(self, message: Message, request_id: str | None) -> Position:
        message["room"] = self.name
        if request_id is not None:
            message["id"] = request_id
        ack = await self._client.ask(message)
        return Position(ack["epoch"], ack["offset"])


def _choice(tags: Mapping[str, str] | None, *, echo: bool) -> Message:
    """Return the fields that say for whom an event is."""
    fields: Message = {"tags": tags} if tags else {}
    return fields if echo else fields | {"echo": False}
