"""The refusal of a token whose key may still come."""

from typing import Protocol

import attrs

from broker.errors import CloseCode, Disconnect, RefusalReason


class Fetching(Protocol):
    """A fetch of keys that is under way."""

    async def wait(self) -> object:
        """Wait until it has ended, with or without new keys."""
        ...


@attrs.frozen
class KeysPending(Disconnect):
    """The keys of a token's issuer are being fetched, so nothing can be said of the token yet: 1013, try again."""

    fetching: Fetching = attrs.field(kw_only=True, eq=False)

    @classmethod
    def of(cls, fetching: Fetching) -> "KeysPending":
        """Return the refusal; `fetching` tells when it is worth another look."""
        return cls(
            CloseCode.TRY_AGAIN_LATER,
            "the keys of the token's issuer are being fetched",
            why=RefusalReason.KEYS_AWAY,
            fetching=fetching,
        )
