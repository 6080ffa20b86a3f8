"""The first use of each named API key, in the log."""

import attrs

from broker.auth.api_keys import ApiKeys, Caller
from broker.log import Log


@attrs.frozen
class KeyUses:
    """Identifies callers by their API keys, and logs the first use of each named key.

    So the log shows which keys are in use at all, and whether a key that is being replaced still is.
    """

    keys: ApiKeys
    log: Log
    _seen: set[tuple[str, bool]] = attrs.field(factory=set)

    def identify(self, authorization: str | None) -> Caller | None:
        """See `ApiKeys.identify`."""
        caller = self.keys.identify(authorization)
        if caller is not None and caller.log_fields and (caller.name, caller.uses_previous) not in self._seen:
            self._seen.add((caller.name, caller.uses_previous))
            self.log.info("API key in use", is_previous=caller.uses_previous, **caller.log_fields)
        return caller
