"""Counts over all rooms of a node."""

import attrs

from broker.histograms import DelayHistogram, SizeHistogram


@attrs.define
class Tally:
    """Counts over all rooms of a node since its start, passivated rooms included."""

    deliveries: int = 0
    deliveries_lost: int = 0
    unavailable: int = 0
    """Requests answered `unavailable` by a room."""
    delays: DelayHistogram = attrs.field(factory=DelayHistogram, eq=False)
    """Time from the append of a batch until every outbox has it, for each publish in it."""
    batches: SizeHistogram = attrs.field(factory=SizeHistogram, eq=False)
    """Publishes that were appended and sent together, if there were several: `delays` has the others too."""
    joins: DelayHistogram = attrs.field(factory=DelayHistogram, eq=False)
    """Time from the request of a join until `joined` is in the outbox; refused and failed joins are not in it."""
