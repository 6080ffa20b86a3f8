"""How the console looks and is reached: light and dark, on a phone, by keyboard alone."""

from uuid import UUID

import pytest
import trio

SIZES = {"desk": (1280, 900), "phone": (360, 740)}


@pytest.fixture
async def lively(world):
    """A few rooms in which people talk."""
    people = ["ann", "bob", "carol", "dave", "erin", "frank", "grace"]
    rooms = {
        "lobby": 7,
        "stage.left": 4,
        "orders.eu": 5,
        "a name that is much too long to be shown whole here": 2,
    }

    async def talk(room, member, seconds):
        while True:
            await trio.sleep(seconds)
            await member.chat(room, f"{seconds:g} seconds have passed")

    for room, size in rooms.items():
        for number, user in enumerate(people[:size]):
            member = await world.enter(room, user)
            world.nursery.start_soon(talk, room, member, 0.3 + 0.2 * number)
    return world


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
async def test_it_fits_and_can_be_read(lively, shoot, scheme, size):
    width, height = SIZES[size]

    def look(page):
        page.get_by_role("link", name="lobby", exact=True).click()
        page.locator("#room-log li").nth(5).wait_for()
        page.locator("#plot-deliveries .curve").wait_for()
        shoot(page, f"{size}-{scheme}")
        # Nothing is cut off to the right.
        assert page.evaluate("document.documentElement.scrollWidth") == width
        # Text stands out from its ground: 4.5 to 1 (WCAG 2.2, 1.4.3).
        assert page.evaluate(CONTRASTS) == []

    await lively.browse(look, color_scheme=scheme, viewport={"width": width, "height": height})


async def test_long_names_and_lists_fit_and_fingers_hit(world, shoot):
    """Names as long as a UUID, which begin alike: 300 rooms, and 300 users in one of them."""
    ids = [str(UUID(int=(0x019A_0000 << 96) + number * 7**30 % 2**96)) for number in range(1, 301)]
    for name in ids[1:]:
        await world.publish(name, type="note")
    for user in ids:
        member = await world.enter(ids[0], user)
    await member.chat(ids[0], f"{ids[1]}{ids[2]} " * 4)

    def look(page):
        page.goto(f"{world.url}/#room={ids[0]}")
        page.locator("#members-list li").nth(299).wait_for(state="attached")
        page.locator("#rooms-body tr").nth(49).wait_for(state="attached")
        page.locator("#room-log li").nth(0).wait_for()
        for size, (width, height) in SIZES.items():
            page.set_viewport_size({"width": width, "height": height})
            shoot(page, f"crowded-{size}")
            assert page.evaluate("document.documentElement.scrollWidth") == width
            assert page.evaluate("document.querySelector('header').offsetHeight") < 64
            assert page.evaluate(CUT_ENDS) == []
            if size == "phone":
                assert page.evaluate(SMALL_TARGETS) == []
            # One of many is found by a part of its id.
            page.get_by_label("Members whose ids contain").fill(ids[250][20:])
            page.locator("#members-list li").nth(1).wait_for(state="detached")
            page.get_by_role("button", name=f"Remove {ids[250]}").click()
            shoot(page, f"remove-{size}")
            assert page.evaluate(WIDER_THAN_THE_SCREEN) == []
            page.get_by_role("button", name="Cancel").click()
            page.get_by_label("Members whose ids contain").fill("nobody")
            page.get_by_text("No member's id contains that.").wait_for()
            page.get_by_label("Members whose ids contain").fill("")

    await world.browse(look, color_scheme="dark", viewport={"width": 1280, "height": 900})


CUT_ENDS = """() => [...document.querySelectorAll(".name")]
  .filter((it) => it.checkVisibility() && it.querySelector(".tail"))
  .filter((it) => it.querySelector(".tail").getBoundingClientRect().right > it.getBoundingClientRect().right + 1
    || it.querySelector(".head").getBoundingClientRect().width < 30)
  .map((it) => it.outerHTML)"""

SMALL_TARGETS = """() => [...document.querySelectorAll("button, a, input, select")]
  .filter((it) => it.checkVisibility() && !it.closest("svg"))
  .map((it) => [it.id || it.textContent, (it.closest("label.check") ?? it).getBoundingClientRect()])
  .filter(([, box]) => box.height < 44 || box.width < 44)
  .map(([name, box]) => [name, box.width, box.height])"""

WIDER_THAN_THE_SCREEN = """() => [...document.querySelectorAll("body *")]
  .filter((it) => it.checkVisibility() && !it.closest("svg, .scroll, .unseen, pre"))
  .filter((it) => it.getBoundingClientRect().right > innerWidth + 1)
  .map((it) => it.outerHTML.slice(0, 80))"""


@pytest.mark.parametrize("size", SIZES)
async def test_a_server_without_rooms_says_what_to_do_next(world, shoot, size):
    width, height = SIZES[size]

    def look(page):
        page.locator("#rooms-begin").wait_for()
        shoot(page, f"empty-{size}")
        assert len(page.locator("#rooms-begin code").text_content().splitlines()) == 3
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate(CONTRASTS) == []
        page.get_by_role("link", name="Open the room lobby").click()
        page.get_by_role("heading", name="lobby").wait_for()
        page.get_by_text("Nothing was said here yet").wait_for()
        world.call(world.say, "lobby", "now")
        page.locator("#room-log").get_by_text("now").wait_for()
        assert not page.get_by_text("Nothing was said here yet").is_visible()
        # A narrowed list that is empty is another thing.
        page.get_by_label("Rooms whose names begin with").fill("zzz")
        page.get_by_text("No room in memory has a name that begins so").wait_for()
        assert not page.locator("#rooms-begin").is_visible()

    await world.browse(look, color_scheme="dark", viewport={"width": width, "height": height})


CONTRASTS = """() => {
  const parse = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor);
      if (color.length < 4 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  const bad = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !element.checkVisibility() || element.closest("svg")) continue;
    const [one, other] = [light(parse(getComputedStyle(element).color)), light(ground(element))];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (ratio < 4.5) bad.push([element.textContent.slice(0, 30), ratio]);
  }
  return bad;
}"""


async def test_everything_can_be_reached_by_keyboard_and_is_seen_to_have_focus(lively):
    def look(page):
        page.get_by_role("link", name="lobby", exact=True).wait_for()
        page.evaluate("document.activeElement.blur()")
        seen = []
        for _ in range(12):
            page.keyboard.press("Tab")
            name, outline = page.evaluate(
                "() => [document.activeElement.textContent.trim() || document.activeElement.id,"
                " getComputedStyle(document.activeElement).outlineStyle]"
            )
            assert outline != "none", name
            seen.append(name)
            if name == "lobby":
                break
        assert seen[:2] == ["Make a token", "Sign out"]
        assert "lobby" in seen
        page.keyboard.press("Enter")
        page.get_by_role("heading", name="lobby").wait_for()
        # The focus is where the room begins, and the next stop is in it.
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "room-pause"
        page.get_by_role("tab", name="Publish").focus()
        page.keyboard.press("ArrowRight")
        assert page.get_by_role("tab", name="Try it as a user").get_attribute("aria-selected") == "true"
        page.get_by_role("link", name="Close").focus()
        page.keyboard.press("Enter")
        page.get_by_text("Choose a room").wait_for()
        assert page.evaluate("document.activeElement.textContent") == "lobby"
        page.go_back()
        page.get_by_role("heading", name="lobby").wait_for()

    await lively.browse(look)


async def test_every_control_has_a_name(lively):
    def look(page):
        page.get_by_role("link", name="lobby", exact=True).click()
        page.locator("#members-list li").nth(3).wait_for()
        nameless = page.evaluate(
            """() => [...document.querySelectorAll("input, select, textarea, button, a[href], meter, table")]
            .filter((it) => !(it.labels?.length || it.ariaLabel || it.textContent.trim()
              || it.closest("[aria-labelledby]")))
            .map((it) => it.outerHTML)"""
        )
        assert nameless == []

    await lively.browse(look)


async def test_focus_stays_where_it_is_while_the_list_moves(lively):
    def look(page):
        link = page.get_by_role("link", name="stage.left", exact=True)
        link.focus()
        first = page.locator("#plot-deliveries .now").text_content()
        page.wait_for_function(
            "first => document.querySelector('#plot-deliveries .now').textContent !== first", arg=first
        )
        assert page.evaluate("document.activeElement.textContent") == "stage.left"

    await lively.browse(look)
