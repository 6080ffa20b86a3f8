"""Metrics of HTTP requests: count by status, and duration."""

from prometheus_client import CollectorRegistry, Counter, Histogram

UNMATCHED = "unmatched"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def known_method(method: str) -> str:
    """Return a method as it may stand in a label: clients may make up others."""
    return method if method in METHODS else "other"


class HttpMetrics:
    """Counts requests by route template, never by path: a path holds names that users chose."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "greenroom_http_requests",
            "HTTP requests answered, streams when they begin",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "greenroom_http_request_seconds",
            "From the head of a request to the head of its answer",
            ("method", "route"),
            registry=self.registry,
        )
        # To look a series up by its labels takes longer than to count.
        self._series: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request that is answered."""
        key = known_method(method), route, status
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = self._requests.labels(*key), self._seconds.labels(*key[:2])
        series[0].inc()
        series[1].observe(seconds)
