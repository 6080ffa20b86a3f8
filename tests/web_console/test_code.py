"""The console shows the code of a room: its class, state, timers, turns and last failure, as text and without a turn."""

import re
from typing import Any

import msgspec
import pytest

from broker.errors import Refused
from broker.room_actors import Member, Refusal, RoomActor, call

DESK, PHONE = (1280, 900), (360, 740)
MARKUP = "<img src=x onerror=alert(1)>"
LARGE = 2**60 + 1
"""A number that JavaScript rounds."""


class Sale(msgspec.Struct):
    bids: dict[str, int] = {}
    note: str = ""


class Auction(RoomActor[Sale], pattern="auction.*"):
    state_version = 3

    @classmethod
    def migrate(cls, state: Any, version: int) -> Any:
        return state

    @call
    async def bid(self, sender: Member | None, price: int) -> None:
        if price < 0:
            raise Refusal("too little")
        self.state.bids[f"bidder {len(self.state.bids)}"] = price

    @call
    async def note(self, sender: Member | None, note: str) -> None:
        self.state.note = note
        self.set_timer(note, 3600)

    @call
    async def fail(self, sender: Member | None, text: str) -> None:
        raise LookupError(text)


async def test_a_room_shows_its_code_as_it_changes(open_world, shoot):
    async with open_world(parts={"rooms": [Auction]}) as world:
        rooms = world.broker.rooms

        async def ask(method: str, data: object) -> None:
            await rooms.call("auction.1", method, msgspec.json.encode(data), None)

        async def fail() -> None:
            with pytest.raises(Refused):
                await ask("fail", MARKUP)

        await world.enter("auction.1", "ann")

        def look(page):
            page.goto(f"{world.url}/#room=auction.1")
            page.get_by_role("heading", name="Code of auction.1").wait_for()
            page.locator("#code-told", has_text=f"{__name__}.Auction · state version 3 · runs on ").wait_for()
            state = page.get_by_label("State, as JSON")
            page.locator("#code-state-told", has_text="21 B, not stored yet").wait_for()
            assert page.locator("#code-timers-none").is_visible()
            assert page.locator("#code-failure-none").is_visible()
            world.call(ask, "bid", LARGE)
            world.call(ask, "note", MARKUP)
            world.call(fail)
            page.locator("#code-failure", has_text=f"in a turn of call: LookupError: {MARKUP}").wait_for()
            assert str(LARGE) in state.text_content()
            assert f'"note": "{MARKUP}"' in state.text_content()
            page.locator("#code-timers li", has_text=re.compile(f"^{re.escape(MARKUP)} in 59 min")).wait_for()
            calls = page.locator("#code-turns tr", has=page.get_by_role("cell", name="call", exact=True))
            calls.locator("td:nth-child(4)", has_text="1").wait_for()
            assert calls.locator("td").all_text_contents()[:5] == ["call", "2", "0", "1", "0"]
            assert page.locator("#code img").count() == 0
            assert page.locator("#code").locator("input, textarea, button, [contenteditable]").count() == 0
            for (width, height), scheme in ((PHONE, "dark"), (DESK, "light")):
                page.set_viewport_size({"width": width, "height": height})
                page.emulate_media(color_scheme=scheme)
                page.evaluate("scrollTo(0, 0)")
                shoot(page, f"code-{width}-{scheme}")
                assert page.evaluate("document.documentElement.scrollWidth") == width
            # A room without code has none of it, and neither has no room.
            page.goto(f"{world.url}/#room=lobby")
            page.locator("#code").wait_for(state="hidden")
            page.go_back()
            page.get_by_role("heading", name="Code of auction.1").wait_for()
            page.get_by_role("link", name="Close").click()
            page.locator("#code").wait_for(state="hidden")

        await world.browse(look)
        turns = {each.kind: each.done for each in (await rooms.inspect_code("auction.1")).turns}
        assert turns == {"join": 1, "call": 2}
