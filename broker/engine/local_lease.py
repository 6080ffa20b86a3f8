"""The lease of the only partition of an engine of one process."""

import attrs
import trio

from broker.engine.outbox import FencedError


@attrs.define
class LocalLease:
    """See `Outbox.lease`. The times are trio's; the fencing numbers begin anew with the process, as all holders do."""

    holder: str | None = None
    fence: int = 0
    until: float = 0.0

    def take(self, holder: str, seconds: float) -> int | None:
        """See `Outbox.lease`."""
        now = trio.current_time()
        is_held = self.holder is not None and now < self.until
        if is_held and self.holder != holder:
            return None
        if not is_held:
            self.fence += 1
        self.holder, self.until = holder, now + seconds
        return self.fence

    def release(self, holder: str) -> None:
        """See `Outbox.release`."""
        if self.holder == holder:
            self.holder = None

    def check(self, fence: int) -> None:
        """Check that no newer holder exists.

        :raises FencedError: if one does.
        """
        if fence != self.fence:
            raise FencedError(f"the lease has the fencing number {self.fence}, not {fence}")
