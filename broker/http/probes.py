"""Answers plain requests of `/health` and `/ready` without Quart, as its routes do."""

import re
import time
from typing import NamedTuple
from wsgiref.handlers import format_date_time

import attrs
import msgspec
import trio

from broker.http.nodes.readiness import ALIVE, find_readiness
from broker.http.plain_post import PLAIN_HOST, find_plain_fields
from broker.http.services import HttpServices

SECURITY_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
)
"""Headers of every answer; a route may set other caching."""

_REQUEST_LINE = re.compile(rb"GET (/health|/ready) HTTP/1\.1\r\n")
_LEFT_TO_QUART = frozenset({b"authorization", b"content-length", b"content-type", b"origin"})
_CONNECTIONS = frozenset({b"keep-alive", b"close"})


class Probe(NamedTuple):
    """A plain request of `/health` or `/ready`."""

    path: str
    is_last: bool
    """Whether the client wants the connection closed behind the answer."""


def parse_probe(data: bytes) -> Probe | None:
    """Return the probe that `data` is; None if it is anything else, or more."""
    line = _REQUEST_LINE.match(data)
    found = None if line is None else find_plain_fields(data, line.end())
    if line is None or found is None:
        return None
    fields, head_bytes = found
    connection = fields.get(b"connection", b"keep-alive").lower()
    is_plain = (
        head_bytes == len(data)
        and fields.keys().isdisjoint(_LEFT_TO_QUART)
        and PLAIN_HOST.fullmatch(fields.get(b"host", b"")) is not None
        and connection in _CONNECTIONS
    )
    return Probe(line[1].decode(), connection == b"close") if is_plain else None


@attrs.frozen
class ProbeAnswers:
    """Answers probes, and counts them."""

    services: HttpServices

    async def answer(self, probe: Probe) -> bytes:
        """Return the whole answer."""
        began_at, status = trio.current_time(), 200
        if probe.path == "/health":
            content = msgspec.json.encode(ALIVE)
        else:
            readiness = await find_readiness(self.services)
            content, status = msgspec.json.encode(readiness), readiness.http_status
        fields = [
            ("content-type", "application/json"),
            ("content-length", f"{len(content)}"),
            *((name.lower(), value) for name, value in SECURITY_HEADERS),
            ("date", format_date_time(time.time())),
            # As h11 writes it.
            *([("Connection", "close")] if probe.is_last else []),
        ]
        head = "".join(f"{name}: {value}\r\n" for name, value in fields)
        self.services.requests.count("GET", probe.path, status, trio.current_time() - began_at)
        return f"HTTP/1.1 {status} \r\n{head}\r\n".encode() + content
