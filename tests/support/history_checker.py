"""What clients have seen of one room, and whether a broker may show that: nothing lost, one order, nothing twice. Pure."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count, pairwise
from typing import TypeVar

import attrs

T = TypeVar("T")


@attrs.frozen
class Place:
    """The position of an event."""

    epoch: str
    offset: int


@attrs.define
class Publish:
    """One publish with its retries; the times are those of `History`, of no clock."""

    began: int
    ended: int | None = None
    place: Place | None = None


@attrs.define
class History:
    """All that was published and heard; each text is published once, by one client."""

    publishes: dict[str, Publish] = attrs.Factory(dict)
    heard: dict[str, list[tuple[Place, str]]] = attrs.Factory(dict)
    """By member, in the order of arrival, over all its connections."""
    stored: list[tuple[Place, str]] = attrs.Factory(list)
    """The history of the room in the end."""
    _time: Iterator[int] = attrs.Factory(count)

    def begin(self, text: str) -> None:
        """Note that a publish begins."""
        self.publishes[text] = Publish(next(self._time))

    def acknowledge(self, text: str, place: Place) -> None:
        """Note the answer to a publish."""
        publish = self.publishes[text]
        publish.ended, publish.place = next(self._time), place

    def hear(self, member: str, place: Place, text: str) -> None:
        """Note an event that a member got."""
        self.heard.setdefault(member, []).append((place, text))

    def faults(self) -> Iterator[str]:
        """Say what no broker may show."""
        yield from self._faults_of_store()
        yield from self._faults_of_acknowledgements()
        for member, heard in self.heard.items():
            yield from faults_of_member(member, heard, self.stored)

    def _faults_of_store(self) -> Iterator[str]:
        if len({place.epoch for place, _ in self.stored}) > 1:
            yield "the history has several epochs"
        if [place.offset for place, _ in self.stored] != list(range(1, len(self.stored) + 1)):
            yield "the history has holes"
        for text, times in Counter(text for _, text in self.stored).items():
            if times > 1:
                yield f"{text} is stored {times} times"
            if text not in self.publishes:
                yield f"{text} was never published"

    def _faults_of_acknowledgements(self) -> Iterator[str]:
        places = {text: place for place, text in self.stored}
        acknowledged = {
            text: publish for text, publish in self.publishes.items() if publish.ended is not None
        }
        for text, publish in acknowledged.items():
            if text not in places:
                yield f"{text} was acknowledged and is lost"
            elif places[text] != publish.place:
                yield f"{text} was acknowledged at another place"
        # Whatever began after an acknowledgement comes behind it: in this order, no later one may come before.
        latest = 0
        moments = [(publish.began, 0, text) for text, publish in self.publishes.items() if text in places]
        moments += [(publish.ended or 0, 1, text) for text, publish in acknowledged.items() if text in places]
        latest_at_begin: dict[str, int] = {}
        for _, is_end, text in sorted(moments):
            if is_end:
                latest = max(latest, places[text].offset)
            else:
                latest_at_begin[text] = latest
        for text, before in latest_at_begin.items():
            if places[text].offset <= before:
                yield f"{text} came before what was acknowledged before it began"


def faults_of_member(
    member: str, heard: Sequence[tuple[Place, T]], held: Sequence[tuple[Place, T]]
) -> Iterator[str]:
    """Say what no member may hear: anything but a part of the history without holes, up to its end."""
    stored = dict(held)
    for (before, _), (place, text) in pairwise(heard):
        if place.offset <= before.offset:
            yield f"{member} heard {text} again, or out of order"
        elif place.offset > before.offset + 1:
            yield f"{member} missed what is before {text}"
    for place, text in heard:
        if stored.get(place) != text:
            yield f"{member} heard {text} at a place where it is not stored"
    if heard and held and heard[-1][0] != held[-1][0]:
        yield f"{member} missed the end"
