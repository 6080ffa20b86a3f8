"""The HTTP requests of the benchmarks to a Greenroom: to publish, and to read its metrics."""

import http.client
import re
from collections.abc import Iterable
from itertools import islice

import attrs
import msgspec

from bench.errors import BenchError

_LINES_AT_ONCE = 100
"""Results come while lines are still sent; so few of them fit the buffers between."""

_SECONDS = 60.0


class _Called(msgspec.Struct):
    data: int


class _Result(msgspec.Struct):
    offset: int | None = None


@attrs.frozen
class Api:
    """The HTTP side of a server. Every call blocks, for a minute at most.

    All raise BenchError if the server does not answer 200 in time.
    """

    host: str
    port: int
    api_key: str

    def publish(self, messages: Iterable[tuple[str, object]]) -> None:
        """Publish messages to rooms, in order."""
        lines = (msgspec.json.encode({"room": room, "message": message}) for room, message in messages)
        while batch := list(islice(lines, _LINES_AT_ONCE)):
            headers = {"Authorization": f"Bearer {self.api_key}", "Content-Type": "application/x-ndjson"}
            answer = self._ask("POST", "/api/messages", b"\n".join(batch), headers)
            results = msgspec.json.Decoder(_Result).decode_lines(answer)
            if len(results) != len(batch) or any(result.offset is None for result in results):
                raise BenchError(f"not every message was stored: {answer[:500].decode(errors='replace')}")

    def call(self, room: str, method: str, *, key: str) -> int:
        """Call a method of a room with code; returns its result, which is a number."""
        headers = {
            "Authorization": f"Bearer {self.api_key}",
            "Content-Type": "application/json",
            "Idempotency-Key": key,
        }
        answer = self._ask("POST", f"/api/rooms/{room}/calls/{method}", b"{}", headers)
        return msgspec.json.decode(answer, type=_Called).data

    def metrics(self) -> dict[str, float]:
        """Return the metrics that have no labels, by name."""
        return parse_metrics(self._ask("GET", "/metrics").decode())

    def closes(self) -> dict[str, float]:
        """Return how many WebSockets and event streams have ended, by close code; without the codes that none had."""
        page = self._ask("GET", "/metrics").decode()
        return {code: float(count) for code, count in _CLOSES.findall(page) if float(count)}

    def _ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> bytes:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=_SECONDS)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise BenchError(f"{method} {path}: {error!r}") from error
        finally:
            connection.close()
        if response.status != http.client.OK:
            raise BenchError(f"{method} {path}: {response.status} {answer[:500].decode(errors='replace')}")
        return answer


_CLOSES = re.compile(r'^greenroom_closes_total{(?:.*,)?code="(\d+)".*} (\S+)$', re.MULTILINE)
_SAMPLE = re.compile(r'^(\w+)(?:{node="[^"]*",worker="\d+"})? (\S+)$', re.MULTILINE)


def parse_metrics(text: str) -> dict[str, float]:
    """Return the samples of a page in Prometheus's text format whose only labels are the node and the worker.

    Those of several workers are added up.
    """
    totals: dict[str, float] = {}
    for name, value in _SAMPLE.findall(text):
        totals[name] = totals.get(name, 0.0) + float(value)
    return totals
