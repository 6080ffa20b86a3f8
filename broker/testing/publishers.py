"""Publishers that record what they are given, and send nothing."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from inspect import getmembers, isfunction, signature
from typing import Any

import attrs

from broker.client import routes
from broker.client.errors import RefusedError
from broker.client.publisher import AsyncPublisher, Publisher
from broker.client.results import Outcome, Published
from broker.client.routes import Message, PublishOptions
from broker.errors import Refused
from broker.model import check_room_name

URL = "http://recorded.invalid"
API_KEY = "recorded"
EPOCH = "recorded"


@attrs.frozen
class PublishedMessage:
    """A message that an application published in one room."""

    room: str
    message: Mapping[str, Any]
    """As a member of the room would read it from JSON."""
    idempotency_key: str | None = None
    ephemeral: bool = False
    tags: Mapping[str, str] = attrs.field(factory=dict)
    exclude_user: str | None = None
    exclude_connection: str | None = None


@attrs.define
class Record:
    """The memory of a fake publisher; a synchronous and an asynchronous one may share it."""

    published: list[PublishedMessage] = attrs.field(factory=list)
    """All messages, in order; one for each room of a broadcast. A key that comes again in a room adds none."""
    calls: list[tuple[str, dict[str, Any]]] = attrs.field(factory=list)
    """Calls of all other methods: name and arguments."""
    answers: dict[str, Any] = attrs.field(factory=dict)
    """The result of each other method by its name; a method without one raises LookupError."""
    failure: Exception | None = None
    """Raised by every call, if set: such as `UnavailableError`."""
    _offsets: dict[str, int] = attrs.field(factory=dict)
    _by_key: dict[tuple[str, str], Published] = attrs.field(factory=dict)

    def messages(self, room: str) -> list[Mapping[str, Any]]:
        """Return the messages of one room, in order."""
        return [said.message for said in self.published if said.room == room]

    def publish(self, room: str, message: Message, key: str | None, options: PublishOptions) -> Published:
        """Record a message and return its position, as a server with empty rooms would.

        It is checked and encoded as the real publisher does, which raises NotSentError.
        """
        body = routes.publish(room, message, key, options).body or b""
        self.raise_failure()
        return self._add(room, json.loads(body), key, options)

    def broadcast(
        self, rooms: Sequence[str], message: Message, key: str | None, options: PublishOptions
    ) -> list[Outcome]:
        """Record a message in each room whose name is allowed; otherwise like `publish`."""
        body = routes.broadcast(rooms, message, key, options).body or b""
        self.raise_failure()
        decoded = json.loads(body)["message"]
        outcomes = []
        for room in rooms:
            try:
                check_room_name(room)
            except Refused as refused:
                error = RefusedError(str(refused.code), refused.message)
                outcomes.append(Outcome(room, None, error))
            else:
                outcomes.append(Outcome(room, self._add(room, decoded, key, options), None))
        return outcomes

    def answer(self, name: str, arguments: dict[str, Any]) -> Any:
        """Record a call of another method and return the answer that the test gave for it.

        :raises LookupError: if there is none.
        """
        self.calls.append((name, arguments))
        self.raise_failure()
        if name not in self.answers:
            raise LookupError(f"no answer for {name}: set record.answers[{name!r}] to what it is to return")
        return self.answers[name]

    def raise_failure(self) -> None:
        """Raise the failure that the test set, if any."""
        if self.failure is not None:
            raise self.failure

    def _add(
        self, room: str, message: Mapping[str, Any], key: str | None, options: PublishOptions
    ) -> Published:
        if key is not None and (room, key) in self._by_key:
            return self._by_key[room, key]
        self.published.append(
            PublishedMessage(
                *(room, message, key, options.ephemeral),
                *(dict(options.tags or {}), options.exclude_user, options.exclude_connection),
            )
        )
        if options.ephemeral:
            result = Published(room, None, None, 0)
        else:
            self._offsets[room] = self._offsets.get(room, 0) + 1
            result = Published(room, self._offsets[room], EPOCH, 0)
        if key is not None:
            self._by_key[room, key] = result
        return result


class FakePublisher(Publisher):
    """A `Publisher` that records. It checks arguments as the real one does, and opens no connection."""

    def __init__(self, record: Record | None = None) -> None:
        """`record` is shared with other fakes; by default it has its own."""
        super().__init__(URL, API_KEY)
        self.record = Record() if record is None else record

    def publish(
        self,
        room: str,
        message: Message,
        *,
        idempotency_key: str | None = None,
        ephemeral: bool = False,
        tags: Mapping[str, str] | None = None,
        exclude_user: str | None = None,
        exclude_connection: str | None = None,
    ) -> Published:
        """See Publisher; members are 0, offsets count from 1."""
        self._calls.client()  # unless it is closed
        options = PublishOptions(ephemeral, tags, exclude_user, exclude_connection)
        return self.record.publish(room, message, idempotency_key, options)

    def broadcast(
        self,
        rooms: Sequence[str],
        message: Message,
        *,
        idempotency_key: str | None = None,
        ephemeral: bool = False,
        tags: Mapping[str, str] | None = None,
        exclude_user: str | None = None,
        exclude_connection: str | None = None,
    ) -> list[Outcome]:
        """See Publisher."""
        self._calls.client()  # unless it is closed
        options = PublishOptions(ephemeral, tags, exclude_user, exclude_connection)
        return self.record.broadcast(rooms, message, idempotency_key, options)


class FakeAsyncPublisher(AsyncPublisher):
    """An `AsyncPublisher` that records, in asyncio and in trio."""

    def __init__(self, record: Record | None = None) -> None:
        """`record` is shared with other fakes; by default it has its own."""
        super().__init__(URL, API_KEY)
        self.record = Record() if record is None else record

    async def publish(
        self,
        room: str,
        message: Message,
        *,
        idempotency_key: str | None = None,
        ephemeral: bool = False,
        tags: Mapping[str, str] | None = None,
        exclude_user: str | None = None,
        exclude_connection: str | None = None,
    ) -> Published:
        """See AsyncPublisher; members are 0, offsets count from 1."""
        self._calls.client()  # unless it is closed
        options = PublishOptions(ephemeral, tags, exclude_user, exclude_connection)
        return self.record.publish(room, message, idempotency_key, options)

    async def broadcast(
        self,
        rooms: Sequence[str],
        message: Message,
        *,
        idempotency_key: str | None = None,
        ephemeral: bool = False,
        tags: Mapping[str, str] | None = None,
        exclude_user: str | None = None,
        exclude_connection: str | None = None,
    ) -> list[Outcome]:
        """See AsyncPublisher."""
        self._calls.client()  # unless it is closed
        options = PublishOptions(ephemeral, tags, exclude_user, exclude_connection)
        return self.record.broadcast(rooms, message, idempotency_key, options)


_OWN = {"publish", "broadcast", "close", "aclose"}


def _answering(name: str, method: Callable[..., Any], *, is_async: bool) -> Callable[..., Any]:
    """Return a method with the signature of `method` that records its calls and answers from the record."""
    parameters = signature(method)

    def answer(self: Any, *positional: Any, **named: Any) -> Any:
        bound = parameters.bind(self, *positional, **named)
        return self.record.answer(name, dict(list(bound.arguments.items())[1:]))

    async def answer_async(self: Any, *positional: Any, **named: Any) -> Any:
        return answer(self, *positional, **named)

    return wraps(method)(answer_async if is_async else answer)


def _answer_all_others(fake: type, real: type, *, is_async: bool) -> None:
    """Give `fake` an answering method for each public method of `real` that it does not have itself."""
    for name, method in getmembers(real, isfunction):
        if not name.startswith("_") and name not in _OWN:
            setattr(fake, name, _answering(name, method, is_async=is_async))


_answer_all_others(FakePublisher, Publisher, is_async=False)
_answer_all_others(FakeAsyncPublisher, AsyncPublisher, is_async=True)
