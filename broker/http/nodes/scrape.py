"""One page of metrics out of those of several workers, with machine and worker as labels. Pure."""

from collections.abc import Iterable, Iterator, Mapping

import attrs
import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample


class Family(msgspec.Struct, frozen=True, array_like=True):
    """The series of one name, as sent to the worker that was scraped."""

    name: str
    documentation: str
    type: str
    samples: list[tuple[str, dict[str, str], float]]


# Unlike JSON, this has NaN and the infinities.
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Family])


def pack_metrics(registries: Iterable[CollectorRegistry]) -> bytes:
    """Collect and encode the metrics of some registries."""
    return _encoder.encode(
        [
            Family(
                metric.name,
                metric.documentation,
                metric.type,
                [(sample.name, sample.labels, sample.value) for sample in metric.samples],
            )
            for registry in registries
            for metric in registry.collect()
        ]
    )


def render_metrics(node: str, expected: Iterable[int], packed: Mapping[int, bytes]) -> bytes:
    """Return the metrics of the workers that answered, in Prometheus' text format.

    `greenroom_worker_up` is 1 for each `expected` worker that did, and 0 for the others.
    """
    registry = CollectorRegistry()
    registry.register(_Page(node, list(expected), packed))
    return generate_latest(registry)


@attrs.frozen(eq=False)
class _Page(Collector):
    node: str
    expected: list[int]
    packed: Mapping[int, bytes]

    def describe(self) -> Iterator[Metric]:
        """Describe nothing: no other collector is registered."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Give all series of a name together, as the text format demands."""
        up = GaugeMetricFamily(
            "greenroom_worker_up", "Whether a worker answered in time", labels=("node", "worker")
        )
        for worker in self.expected:
            up.add_metric((self.node, str(worker)), float(worker in self.packed))
        yield up
        merged: dict[str, Metric] = {}
        for worker, answer in sorted(self.packed.items()):
            place = {"node": self.node, "worker": str(worker)}
            for family in _decoder.decode(answer):
                metric = merged.get(family.name)
                if metric is None:
                    metric = merged[family.name] = Metric(family.name, family.documentation, family.type)
                metric.samples += [
                    Sample(name, {**labels, **place}, value) for name, labels, value in family.samples
                ]
        yield from merged.values()
