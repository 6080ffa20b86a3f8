"""How many connections the node and one address may have. Pure."""

from enum import Enum

from broker.model import network_of

MOST_REFUSED = 64
"""Connections that are answered at one time that there are too many."""

MOST_REFUSED_PER_ADDRESS = 8


class Verdict(Enum):
    """The answer to a new connection."""

    ADMITTED = "admitted"
    ADDRESS_FULL = "address_full"
    NODE_FULL = "node_full"
    SURPLUS = "surplus"
    """To be closed at once: too many others are being answered one of those two."""


class Admission:
    """Counts connections; every `enter` is followed by one `leave` with its verdict.

    A refused connection counts neither for the node nor for its address, but among the refused, which have limits of
    their own. So an address can fill its own share, and nothing else.
    """

    def __init__(self, per_node: int, per_address: int) -> None:
        self._admitted = _Counts(per_node, per_address)
        self._refused = _Counts(MOST_REFUSED, MOST_REFUSED_PER_ADDRESS)
        self.ended_count = 0
        """Connections that have ended."""

    def set_limits(self, per_node: int, per_address: int) -> None:
        """Admit so many from now on; those that are open stay."""
        self._admitted.set_limits(per_node, per_address)

    def __len__(self) -> int:
        """Count the open connections, without the surplus."""
        return self._admitted.total + self._refused.total

    @property
    def is_full(self) -> bool:
        """Whether no more connections are admitted, whatever their address."""
        return self._admitted.is_full

    def enter(self, address: str | None) -> Verdict:
        """Count a new connection and judge it; None is a trusted proxy, which may have as many as the node."""
        network = None if address is None else network_of(address)
        verdict = self._admitted.verdict_on(network)
        if verdict is Verdict.ADMITTED:
            self._admitted.add(network)
        elif self._refused.verdict_on(network) is Verdict.ADMITTED:
            self._refused.add(network)
        else:
            verdict = Verdict.SURPLUS
        return verdict

    def leave(self, address: str | None, verdict: Verdict) -> None:
        """Count a connection that ended."""
        self.ended_count += 1
        self._remove(None if address is None else network_of(address), verdict)

    def name_client(self, address: str) -> Verdict:
        """Count an admitted connection of a proxy as one of the client that it has named, and judge it anew."""
        self._remove(None, Verdict.ADMITTED)
        return self.enter(address)

    def take_place(self, address: str) -> bool:
        """Take a place of an address for a request of a proxy's connection; False if the address has no more.

        A place that was taken is given back once, by `give_back`.
        """
        network = network_of(address)
        if self._admitted.is_full_for(network):
            return False
        self._admitted.add_to_network(network, 1)
        return True

    def give_back(self, address: str) -> None:
        """Give back a place of an address."""
        self._admitted.add_to_network(network_of(address), -1)

    def _remove(self, network: str | None, verdict: Verdict) -> None:
        if verdict is Verdict.ADMITTED:
            self._admitted.remove(network)
        elif verdict is not Verdict.SURPLUS:
            self._refused.remove(network)


class _Counts:
    """Connections by network, and their limits."""

    def __init__(self, most: int, most_per_network: int) -> None:
        self._most = most
        self._most_per_network = most_per_network
        self._by_network: dict[str, int] = {}
        self.total = 0

    def set_limits(self, most: int, most_per_network: int) -> None:
        """Replace the limits."""
        self._most, self._most_per_network = most, most_per_network

    @property
    def is_full(self) -> bool:
        """Whether no more are admitted, of any network."""
        return self.total >= self._most

    def is_full_for(self, network: str) -> bool:
        """Whether no more of a network are admitted."""
        return self._by_network.get(network, 0) >= self._most_per_network

    def verdict_on(self, network: str | None) -> Verdict:
        """Judge one more of a network, or of none."""
        if self.is_full:
            return Verdict.NODE_FULL
        is_full = network is not None and self.is_full_for(network)
        return Verdict.ADDRESS_FULL if is_full else Verdict.ADMITTED

    def add(self, network: str | None) -> None:
        """Count one more."""
        self.total += 1
        if network is not None:
            self.add_to_network(network, 1)

    def remove(self, network: str | None) -> None:
        """Count one less."""
        self.total -= 1
        if network is not None:
            self.add_to_network(network, -1)

    def add_to_network(self, network: str, difference: int) -> None:
        """Count one more or one less of a network, as many as ever in all."""
        count = self._by_network.get(network, 0) + difference
        if count > 0:
            self._by_network[network] = count
        else:
            # A KeyError for one that never came.
            del self._by_network[network]
