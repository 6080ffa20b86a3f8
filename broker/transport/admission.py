"""How many connections the node and one address may have. Pure."""

from enum import Enum


class Verdict(Enum):
    """What is to become of a new connection."""

    WELCOME = "welcome"
    ADDRESS_FULL = "address_full"
    NODE_FULL = "node_full"


class Admission:
    """Counts connections; every `enter` is followed by one `leave`, whatever the verdict."""

    def __init__(self, per_node: int, per_address: int) -> None:
        self._per_node = per_node
        self._per_address = per_address
        self._by_address: dict[str, int] = {}
        self._count = 0
        self.left = 0
        """How many connections have ended."""

    def __len__(self) -> int:
        """How many connections there are."""
        return self._count

    def enter(self, address: str) -> Verdict:
        """Count a new connection and judge it."""
        self._count += 1
        count = self._by_address[address] = self._by_address.get(address, 0) + 1
        if self._count > self._per_node:
            return Verdict.NODE_FULL
        return Verdict.ADDRESS_FULL if count > self._per_address else Verdict.WELCOME

    def leave(self, address: str) -> None:
        """Count a connection that ended."""
        self._count -= 1
        self.left += 1
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]
