"""How many connections the node and one address may have. Pure."""

from enum import Enum
from typing import TypeAlias

from broker.config.settings import LimitSettings
from broker.model import network_of
from broker.sessions.rate import TokenBucket

MOST_REFUSED = 64
"""Connections that are answered at one time that there are too many."""

MOST_REFUSED_PER_ADDRESS = 8


def admission_limits(limits: LimitSettings, now: float) -> "AdmissionLimits":
    """Return the limits of an `Admission` as configured; `now` as in its `enter`."""
    accepts = None
    if limits.accepts_per_second is not None:
        accepts = TokenBucket(limits.accepts_per_second, limits.accepts_burst, now)
    return limits.connections, limits.connections_per_address, accepts


AdmissionLimits: TypeAlias = tuple[int, int, TokenBucket | None]
"""Connections of the node and of one address, and the rate at which they may come; None is any."""


class Verdict(Enum):
    """The answer to a new connection."""

    ADMITTED = "admitted"
    ADDRESS_FULL = "address_full"
    NODE_FULL = "node_full"
    TOO_FAST = "too_fast"
    """More come in a second than the node accepts."""
    SURPLUS = "surplus"
    """To be closed at once: too many others are being answered one of those two."""


class Admission:
    """Counts connections; every `enter` is followed by one `leave` with its verdict.

    A refused connection counts neither for the node nor for its address, but among the refused, which have limits of
    their own. So an address can fill its own share, and nothing else.
    """

    def __init__(self, per_node: int, per_address: int, accepts: TokenBucket | None = None) -> None:
        """Admit so many, and no faster than `accepts`; None is any rate."""
        self._accepts = accepts
        self._admitted = _Counts(per_node, per_address)
        self._refused = _Counts(MOST_REFUSED, MOST_REFUSED_PER_ADDRESS)
        self.surplus_of = Verdict.NODE_FULL
        """The verdict that the last surplus connection would have got."""
        self.ended_count = 0
        """Connections that have ended."""

    def set_limits(self, per_node: int, per_address: int, accepts: TokenBucket | None = None) -> None:
        """Admit so many from now on; those that are open stay."""
        self._accepts = accepts
        self._admitted.set_limits(per_node, per_address)

    def __len__(self) -> int:
        """Count the open connections, without the surplus."""
        return self._admitted.total + self._refused.total

    def enter(self, address: str | None, now: float = 0.0) -> Verdict:
        """Count a new connection and judge it; None is a trusted proxy, which may have as many as the node.

        `now` is a time in seconds that never goes back.
        """
        is_too_fast = self._accepts is not None and self._accepts.take(now) > 0
        return self._enter(address, Verdict.TOO_FAST if is_too_fast else None)

    def _enter(self, address: str | None, refusal: Verdict | None = None) -> Verdict:
        network = None if address is None else network_of(address)
        verdict = refusal or self._admitted.verdict_on(network)
        if verdict is Verdict.ADMITTED:
            self._admitted.add(network)
        elif self._refused.verdict_on(network) is Verdict.ADMITTED:
            self._refused.add(network)
        else:
            self.surplus_of, verdict = verdict, Verdict.SURPLUS
        return verdict

    def leave(self, address: str | None, verdict: Verdict) -> None:
        """Count a connection that ended."""
        self.ended_count += 1
        self._remove(None if address is None else network_of(address), verdict)

    def name_client(self, address: str) -> Verdict:
        """Count an admitted connection of a proxy as one of the client that it has named, and judge it anew."""
        self._remove(None, Verdict.ADMITTED)
        return self._enter(address)

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
