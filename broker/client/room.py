"""One room, as the application sees it."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import attrs

from broker.client.effects import Message
from broker.client.errors import NotSentError
from broker.model import Position

if TYPE_CHECKING:
    from broker.client.client import Client


@attrs.frozen
class Presence:
    """Who is in a room."""

    room_size: int
    """Connections."""
    users: dict[str, int]
    """How many connections each user has there."""


@attrs.frozen
class History:
    """Some of a room's events, and where the room stands."""

    messages: list[Message]
    position: Position


class Room:
    """A room that this client is in; made by `Client.join`.

    Iterating gives the room's messages as the protocol has them, each with its `type`: first `joined` (without
    its `messages`, which follow one by one), then `chat`, `event`, `user_joined`, `user_left`, `presence_changed`,
    `gap` and those of the application. After a lost connection `joined` comes again, behind all that came before
    and before all that was missed. Events that are stored come in order and once; if some may be missing,
    `recovered` of that `joined` is false, or a `gap` says which. What is not stored (presence, ephemeral events)
    is lost with a connection; `joined` then tells the size of the room.
    """

    def __init__(self, name: str, client: "Client") -> None:
        self.name = name
        self._client = client

    @property
    def position(self) -> Position | None:
        """Of the last event taken: `join(since=…)` with it goes on from there."""
        return self._client.position(self.name)

    @property
    def joined(self) -> Message:
        """The last `joined`, without its messages."""
        return self._client.joined(self.name)

    def __aiter__(self) -> AsyncIterator[Message]:
        return self

    async def __anext__(self) -> Message:
        """Wait for the next message; if cancelled, none is lost.

        :raises RemovedError: once this user was removed from the room and all before was taken.
        :raises ClosedError: once the server does not want this client back and all before was taken.
        """
        return await self._client.next_message(self.name)

    async def chat(self, text: str, *, id: str | None = None) -> Position:  # noqa: A002  # the protocol's word
        """Say a text; returns its position once it is stored.

        It is said once, however often the connection is lost or the server refuses it for now. With an `id` of your own that is so even if you
        call again after an error, within the server's window (5 minutes by default); it must be new for each text.
        If cancelled, it may or may not be said.

        :raises NotSentError: if it is no text.
        :raises ClientError: see `Client.ask`.
        """
        if not isinstance(text, str):
            raise NotSentError(f"text: a text, not {type(text).__name__}")
        return await self._say({"type": "chat", "text": text}, id)

    async def publish(self, event: str, data: Any, *, id: str | None = None) -> Position:  # noqa: A002
        """Say any JSON value under an event name; like `chat` in all else."""
        return await self._say({"type": "publish", "event": event, "data": data}, id)

    async def publish_ephemeral(self, event: str, data: Any) -> None:
        """Say something that is not stored; returns once it is on its way.

        It is said later if the server refuses it for now, but not if the connection is lost meanwhile.

        :raises ConnectionLostError: if so.
        :raises ClientError: see `Client.ask`.
        """
        message = {"type": "publish", "room": self.name, "event": event, "data": data, "ephemeral": True}
        await self._client.ask(message, "once")

    async def presence(self) -> Presence:
        """Ask who is in the room.

        :raises ClientError: see `Client.ask`.
        """
        answer = await self._client.ask({"type": "presence", "room": self.name}, "ask")
        return Presence(
            answer["room_size"], {user["user_id"]: user["connections"] for user in answer["users"]}
        )

    async def history(
        self, *, since: Position | None = None, limit: int | None = None, reverse: bool = False
    ) -> History:
        """Ask for events that are held: those after `since`, else the oldest, or (`reverse`) the newest first.

        At most `limit`, and 1000 (the server's setting).

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
