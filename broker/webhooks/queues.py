"""The queues of the outbox that the settings ask for. Pure."""

from collections.abc import Iterable

from broker.config.settings import WebhookSettings
from broker.engine.outbox import Kind, Queue


def queues_of(webhooks: Iterable[WebhookSettings]) -> tuple[Queue, ...]:
    """Return a queue for each webhook, of its name."""
    return tuple(
        Queue(
            webhook.name,
            frozenset(map(Kind, webhook.kinds)),
            rooms=webhook.rooms,
            hold_back_seconds=webhook.hold_back_seconds,
        )
        for webhook in webhooks
    )
