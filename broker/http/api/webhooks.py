"""The queues of webhooks over HTTP: their lengths, and the entries put aside."""

from typing import Annotated

import attrs
import msgspec
from msgspec import UNSET, Meta, UnsetType
from quart import Blueprint, Response

from broker.auth.api_keys import ADMIN, READ
from broker.engine.outbox import AsideEntry, Outbox
from broker.errors import ErrorCode, Refused
from broker.http.api.models import answer
from broker.http.api.operations import operation
from broker.http.bodies import decode_json, read_json, read_query
from broker.http.deadlines import answer_within
from broker.http.problems import Problem, ProblemError
from broker.http.services import HttpServices
from broker.webhooks.aside import Cursor, list_aside, repeat
from broker.webhooks.batches import encode_entry

UnixMs = Annotated[int, Meta(description="Unix milliseconds")]


class WebhookQueue(msgspec.Struct, frozen=True):
    """A webhook, and how many entries its queue has; `oldest_time` is null if none waits."""

    name: str
    waiting: Annotated[int, Meta(description="entries to be delivered, without those held back")]
    oldest_time: Annotated[
        int | None, Meta(description="when the oldest of them came into the queue, in Unix milliseconds")
    ]
    aside: Annotated[int, Meta(description="entries put aside, as nobody took them in time")]
    dropped: Annotated[
        int, Meta(description="entries lost since the start, as the queue was full; in memory only")
    ]


class WebhookQueues(msgspec.Struct, frozen=True):
    """The webhooks, in the order of the configuration."""

    webhooks: list[WebhookQueue]


class AsideQuery(msgspec.Struct, frozen=True):
    """The entries to list."""

    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    cursor: Annotated[str, Meta(description="`cursor` of the page before")] = ""


class AsideItem(msgspec.Struct, frozen=True):
    """An entry put aside."""

    entry: Annotated[msgspec.Raw, Meta(description="the entry, as it was posted")]
    put_aside_time: UnixMs
    reason: Annotated[str, Meta(description="the failure of its last attempt")]

    @classmethod
    def of(cls, aside: AsideEntry) -> "AsideItem":
        """Return the item of an entry."""
        return cls(msgspec.Raw(encode_entry(aside.entry)), aside.aside_ms, aside.reason)


class AsidePage(msgspec.Struct, frozen=True):
    """Entries put aside, the oldest first. `cursor` asks for the page behind; null on the last."""

    entries: list[AsideItem]
    cursor: str | None


class RepeatRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The entries to deliver again: those of `ids`, or `all`."""

    ids: Annotated[
        Annotated[list[str], Meta(min_length=1, max_length=1000)] | UnsetType,
        Meta(description="ids of entries put aside; others are passed over"),
    ] = UNSET
    all: Annotated[bool, Meta(description="all entries put aside")] = False


class Repeated(msgspec.Struct, frozen=True):
    """How many entries are in the queue again."""

    repeated: int


@attrs.frozen
class WebhookRoutes:
    """The routes of webhooks."""

    services: HttpServices

    def add_to(self, api: Blueprint) -> None:
        """Add the routes to a blueprint below /api."""
        api.add_url_rule("/webhooks", view_func=self.list_queues, methods=["GET"])
        api.add_url_rule("/webhooks/<name>/aside", view_func=self.list_aside, methods=["GET"])
        api.add_url_rule("/webhooks/<name>/repeat", view_func=self.repeat, methods=["POST"])

    @operation(response=WebhookQueues, need=READ)
    async def list_queues(self) -> Response:
        """List the webhooks with the lengths of their queues, over all nodes."""
        outbox = self.services.engine.outbox
        queues = []
        if outbox is not None:
            with answer_within(self.services.settings.http.request_seconds):
                queues = list(await outbox.statistics())
        listed = []
        for webhook in self.services.settings.webhooks:
            own = [queue for queue in queues if queue.queue == webhook.name]
            oldest = min((queue.oldest_ms for queue in own if queue.oldest_ms is not None), default=None)
            sums = (sum(queue.aside for queue in own), sum(queue.dropped for queue in own))
            listed.append(WebhookQueue(webhook.name, sum(queue.waiting for queue in own), oldest, *sums))
        return answer(WebhookQueues(listed))

    @operation(query=AsideQuery, response=AsidePage, need=READ)
    async def list_aside(self, name: str) -> Response:
        """List the entries of a webhook that were put aside, the oldest of each Redis server first."""
        outbox = self._outbox_of(name)
        query = read_query(AsideQuery)
        try:
            after = Cursor.read(query.cursor) if query.cursor else Cursor()
        except ValueError as error:
            raise Refused(ErrorCode.INVALID_MESSAGE, f"cursor: {error}") from None
        with answer_within(self.services.settings.http.request_seconds):
            found, cursor = await list_aside(outbox, name, limit=query.limit, after=after)
        return answer(AsidePage(list(map(AsideItem.of, found)), None if cursor is None else str(cursor)))

    @operation(request=RepeatRequest, response=Repeated, need=ADMIN)
    async def repeat(self, name: str) -> Response:
        """Put entries that were put aside back into the queue, with their ids and numbers, to be delivered next."""
        outbox = self._outbox_of(name)
        asked = decode_json(await read_json(self.services.settings.http), RepeatRequest)
        if asked.all == (asked.ids is not UNSET):
            raise Refused(ErrorCode.INVALID_MESSAGE, "ids: either a list of ids, or all: true")
        with answer_within(self.services.settings.http.request_seconds):
            count = await repeat(outbox, name, None if asked.ids is UNSET else asked.ids)
        return answer(Repeated(count))

    def _outbox_of(self, name: str) -> Outbox:
        """Return the outbox that has the queue of a webhook.

        :raises ProblemError: 404 if there is no webhook of that name.
        """
        outbox = self.services.engine.outbox
        if outbox is None or all(webhook.name != name for webhook in self.services.settings.webhooks):
            raise ProblemError(Problem.of(404, "there is no webhook of this name"))
        return outbox
