"""Entries and settings of webhooks, for tests."""

import msgspec

from broker.config.settings import WebhookSettings
from broker.engine.outbox import Entry, Kind

SECRET = "whsec_" + "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXowMTIzNDU="


def entry(number: int, *, queued_ms: int = 0, room: str | None = "a", fields: bytes = b"{}") -> Entry:
    kind = Kind.MESSAGE if room else Kind.USER_ONLINE
    return Entry("e", number, kind, 1_000 + number, queued_ms, room, "ann", msgspec.Raw(fields))


def webhook(**changed: object) -> WebhookSettings:
    fields: dict[str, object] = {"name": "shop", "url": "http://127.0.0.1:1/", "secret": SECRET}
    return WebhookSettings(**(fields | changed))  # type: ignore[arg-type]
