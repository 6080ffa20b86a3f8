"""A filter of the idempotency keys that were stored lately, in constant memory. Pure."""

from broker.model import IdempotencyKey

_BITS_POWER = 21
_BITS = 1 << _BITS_POWER
"""Of each of two filters, 256 KiB. With 100,000 keys in one, one of 400 other keys seems to be there; with 300,000, one of 25."""
_PROBES = 3


class RecentKeys:
    """A Bloom filter in two generations: it never misses a key that was noted within `window_ms`.

    It may hold keys that were not noted, or longer ago.
    """

    def __init__(self, window_ms: int) -> None:
        self._window_ms = window_ms
        self._began_ms = 0
        self._present = bytearray(_BITS // 8)
        self._before = bytearray(_BITS // 8)

    def note(self, room: str, key: IdempotencyKey, now_ms: int) -> None:
        """Note that a key is stored."""
        if now_ms - self._began_ms >= self._window_ms:
            # What is in the older one was noted before the newer one began.
            self._before, self._present = self._present, bytearray(_BITS // 8)
            self._began_ms = now_ms
        for place in _places(room, key):
            self._present[place >> 3] |= 1 << (place & 7)

    def may_hold(self, room: str, key: IdempotencyKey) -> bool:
        """Whether a key may have been noted within the window."""
        places = _places(room, key)
        return _has_all(self._present, places) or _has_all(self._before, places)


def _places(room: str, key: IdempotencyKey) -> list[int]:
    # Python's hash of strings is made with a secret of the process, so nobody can choose keys that meet.
    mixed = hash((room, key.scope, key.key))
    return [mixed >> number * _BITS_POWER & _BITS - 1 for number in range(_PROBES)]


def _has_all(bits: bytearray, places: list[int]) -> bool:
    return all(bits[place >> 3] >> (place & 7) & 1 for place in places)
