"""Counts over all rooms of a node."""

import attrs

from broker.histograms import DelayHistogram, SizeHistogram


@attrs.define
class Tally:
    """Counts over all rooms of a node since its start, passivated rooms included."""

    deliveries: int = 0
    """Notices offered to members: each ends as written, lost or gone, and waits until then."""
    deliveries_lost: int = 0
    """Dropped by the policy towards slow readers, or replaced by a newer one."""
    gone: int = 0
    """Those whose connection ended before they were written."""
    waiting: int = 0
    """Those in the outbox of a peer that has yet to read."""
    filtered: int = 0
    """Events that were not offered to a member, by its filter or by the publisher's exclusion."""
    _written: int = attrs.field(default=0, eq=False)
    unavailable: int = 0
    """Requests answered `unavailable` by a room."""
    delays: DelayHistogram = attrs.field(factory=DelayHistogram, eq=False)
    """Time from the append of a batch until every outbox has it, for each publish in it."""
    batches: SizeHistogram = attrs.field(factory=SizeHistogram, eq=False)
    """Publishes that were appended and sent together, if there were several: `delays` has the others too."""
    joins: DelayHistogram = attrs.field(factory=DelayHistogram, eq=False)
    """Time from the request of a join until `joined` is in the outbox; refused and failed joins are not in it."""

    def read_written(self) -> int:
        """Return how many deliveries were handed to the kernel. It never falls.

        Those that the flusher has yet to write within this turn of the scheduler are counted already. The kernel may take
        less of them, which only shows once others are written.
        """
        self._written = max(self._written, self.deliveries - self.deliveries_lost - self.gone - self.waiting)
        return self._written
