"""The console shows rooms, their users, and their live events."""

import re

import trio


def row_of(page, room):
    return page.locator("#rooms-body tr", has=page.get_by_role("link", name=room, exact=True))


async def test_rooms_show_their_live_size_and_rate(world):
    await world.enter("lobby", "ann")
    await world.enter("den", "bob")

    async def speak() -> None:
        while True:
            await world.publish("den", type="note")
            await trio.sleep(0.05)

    def look(page):
        row_of(page, "den").locator(".rate", has_text=re.compile(r"^[1-9]")).wait_for()
        size, rate = row_of(page, "den").locator("td.number").all_text_contents()
        assert size == "1"
        assert 1 <= float(rate) <= 25
        assert row_of(page, "lobby").locator("td.number").all_text_contents() == ["1", "0.0"]
        # The busiest first.
        assert page.locator("#rooms-body a").first.text_content() == "den"
        page.get_by_label("Rooms whose names begin with").fill("lo")
        row_of(page, "den").wait_for(state="detached")
        assert page.locator("#rooms-body a").all_text_contents() == ["lobby"]

    world.nursery.start_soon(speak)
    await world.browse(look)


async def test_many_rooms_are_listed_page_by_page(world):
    for number in range(120):
        await world.publish(f"room {number:03}", type="note")

    def look(page):
        page.get_by_text("and 70 more rooms").wait_for()
        assert page.locator("#rooms-body tr").count() == 50
        page.get_by_label("Order").select_option("by name")
        page.locator("#rooms-next[aria-disabled=false]").wait_for()
        row_of(page, "room 049").wait_for()
        page.get_by_role("button", name="Next page").click()
        row_of(page, "room 099").wait_for()
        page.get_by_role("button", name="Next page").click()
        row_of(page, "room 119").wait_for()
        assert page.locator("#rooms-body tr").count() == 20
        assert page.get_by_role("button", name="Next page").get_attribute("aria-disabled") == "true"
        page.get_by_role("button", name="First page").click()
        row_of(page, "room 000").wait_for()

    await world.browse(look)


async def test_a_room_shows_who_is_in_it_and_what_is_said_as_it_passes(world):
    ann = await world.enter("lobby", "ann")
    await world.enter("lobby", "bob")
    await ann.chat("lobby", "said before anybody looked")

    def look(page):
        page.get_by_role("link", name="lobby", exact=True).click()
        log, members = page.locator("#room-log"), page.locator("#members-list")
        log.get_by_text("said before anybody looked").wait_for()
        members.get_by_text("bob").wait_for()
        page.locator("#room-count", has_text="2 connections").wait_for()
        world.call(ann.chat, "lobby", "and while somebody looks")
        line = log.locator("li", has_text="and while somebody looks")
        line.wait_for()
        assert line.locator("b").text_content() == "ann"
        assert line.locator(".offset").text_content() == "#2"
        # Whoever watches is no member.
        assert members.locator("li .who").all_text_contents() == ["ann", "bob"]

    await world.browse(look)


async def test_who_comes_and_goes_is_seen(world):
    await world.enter("lobby", "ann")

    def look(page):
        page.get_by_role("link", name="lobby", exact=True).click()
        log, members = page.locator("#room-log"), page.locator("#members-list")
        members.get_by_text("ann").wait_for()
        carol = world.call(world.enter, "lobby", "carol")
        log.get_by_text("carol came in").wait_for()
        members.get_by_text("carol").wait_for()
        world.call(carol.show, "lobby", {"typing": True})
        log.get_by_text('carol shows {"typing":true}').wait_for()
        world.call(carol.leave)
        log.get_by_text("carol left").wait_for()
        members.get_by_text("carol").wait_for(state="detached")

    await world.browse(look)


async def test_a_paused_log_waits_and_goes_on(world):
    def look(page):
        page.get_by_label("Name of a room").fill("den")
        page.keyboard.press("Enter")
        page.get_by_text("0 connections").wait_for()
        page.get_by_role("button", name="Pause").click()
        world.call(world.say, "den", "later")
        page.get_by_role("button", name="Paused (1)").wait_for()
        assert page.locator("#room-log li").count() == 0
        page.get_by_role("button", name="Paused (1)").click()
        page.locator("#room-log").get_by_text("later").wait_for()

    await world.browse(look)


async def test_a_room_that_says_more_than_a_page_can_show_does_not_fill_it(world):
    async def flood() -> None:
        for _ in range(20):
            async with trio.open_nursery() as nursery:
                for number in range(200):
                    nursery.start_soon(world.say, "den", f"line {number}")

    def look(page):
        page.goto(f"{world.url}/#room=den")
        page.locator("#room-count", has_text="0 connections").wait_for()
        world.call(flood)
        world.call(world.say, "den", "the last one")
        page.locator("#room-log").get_by_text("the last one").wait_for()
        assert page.locator("#room-log li").count() <= 300

    await world.browse(look)


async def test_what_users_make_up_is_text_and_never_html(world):
    evil = "<img src=x onerror=document.title='owned'>"
    user = "<b onmouseover=alert(1)>eve"
    eve = await world.enter(evil, user)
    await eve.chat(evil, f"<script>document.title='owned'</script>{evil}")
    await eve.send(type="publish", room=evil, event=evil, data={evil: evil})
    await world.publish(evil, type=evil, text=evil)

    def look(page):
        page.get_by_role("link", name=evil, exact=True).click()
        page.get_by_role("heading", name=evil).wait_for()
        log = page.locator("#room-log")
        log.locator("li").nth(2).wait_for()
        assert f"<script>document.title='owned'</script>{evil}" in log.locator("li").first.text_content()
        page.locator("#members-list").get_by_text(user).wait_for()
        page.get_by_role("button", name=f"Remove {user}").click()
        page.get_by_role("heading", name=f"Remove {user}?").wait_for()
        assert (
            page.locator("#console img, #confirm img, #console b[onmouseover], #console script").count() == 0
        )
        assert page.title() == f"{evil} · Greenroom"

    await world.browse(look)
