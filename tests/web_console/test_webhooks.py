"""The console shows the queues of webhooks, and repeats entries that were put aside."""

import trio

from tests.support.patience import PATIENCE_SECONDS
from tests.support.receiver import SECRET, Manner, open_application

NONE = "\N{EN DASH}"
DESK, PHONE = (1280, 900), (360, 740)
SOME_SECONDS_MS = 6000
"""Longer than the console waits before it asks for the queues again."""
READER, POSTER = "key-of-the-reader-Zt9x", "key-of-the-poster-Zt9x"
KEYS = [
    {"name": "reader", "key": READER, "scopes": ["read"]},
    {"name": "poster", "key": POSTER, "scopes": ["publish"]},
]


def webhooks(url):
    """Two webhooks: entries of `shop` that are not taken at once are put aside."""
    shop = {"name": "shop", "kinds": ["message"], "rooms": ["lobby"], "give_up_seconds": 0.001}
    return [{**shop, "url": url, "secret": SECRET}, {"name": "audit", "url": url, "secret": SECRET}]


def row_of(page, webhook):
    return page.locator("#webhooks-body tr", has=page.get_by_role("cell", name=webhook, exact=True))


def cells(row):
    return row.locator("td").all_text_contents()[:5]


async def put_aside(world, texts):
    """Publish notes, and wait until `shop` has given up on them."""
    before = await aside_in(world)
    for text in texts:
        await world.say("lobby", text)
    with trio.fail_after(PATIENCE_SECONDS):
        while await aside_in(world) < before + len(texts):
            await trio.sleep(0.01)


async def aside_in(world):
    shop, _ = (await world.http.get("/api/webhooks")).json()["webhooks"]
    return shop["aside"]


async def test_entries_put_aside_are_listed_with_their_reason_and_repeated(open_world, shoot):
    manners = [Manner.REFUSE]
    async with (
        open_application(lambda: manners[-1]) as application,
        open_world(webhooks=webhooks(application.url)) as world,
    ):
        await put_aside(world, ["<b>0</b>", "1", "2"])

        def look(page):
            row_of(page, "shop").get_by_role(
                "button", name="List the entries of shop that were put aside"
            ).click()
            entries = page.locator("#aside-body tr")
            entries.nth(2).wait_for()
            page.get_by_text("3 entries put aside").wait_for()
            assert cells(row_of(page, "shop")) == ["shop", "0", NONE, "3", "0"]
            assert cells(row_of(page, "audit")) == ["audit", "0", NONE, "0", "0"]
            assert row_of(page, "audit").get_by_role("button").count() == 0, "it has nothing to list"
            assert "<b>0</b>" in entries.nth(0).get_attribute("title")
            assert entries.nth(0).locator("td").all_text_contents()[1:4] == ["message", "lobby", "status 503"]
            for (width, height), scheme in ((PHONE, "dark"), (DESK, "light")):
                page.set_viewport_size({"width": width, "height": height})
                page.emulate_media(color_scheme=scheme)
                page.evaluate("scrollTo(0, 0)")
                shoot(page, f"webhooks-{width}-{scheme}")
                assert page.evaluate("document.documentElement.scrollWidth") == width
            nameless = page.evaluate(
                """() => [...document.querySelectorAll("#webhooks :is(button, table)")]
                .filter((it) => !(it.ariaLabel || it.textContent.trim() || it.closest("[aria-labelledby]")))"""
            )
            assert nameless == []
            # Without a yes nothing is done.
            repeat = entries.nth(1).get_by_role("button", name="Repeat the entry")
            repeat.click()
            page.get_by_role("button", name="Cancel").click()
            repeat.click()
            assert not page.get_by_role("button", name="Close all connections").is_visible()
            manners.append(Manner.TAKE)
            page.get_by_role("button", name="Deliver again").click()
            page.get_by_text("1 entry of shop in the queue again").wait_for()
            page.get_by_text("2 entries put aside").wait_for()
            entries.nth(2).wait_for(state="detached")
            page.get_by_role("button", name="Repeat all").click()
            page.get_by_role("button", name="Deliver again").click()
            page.get_by_text("2 entries of shop in the queue again").wait_for()
            page.locator("#aside").wait_for(state="hidden")
            assert cells(row_of(page, "shop"))[3:] == ["0", "0"]

        await world.browse(look)
        with trio.fail_after(PATIENCE_SECONDS):
            while len(application.entries) < 3:
                await trio.sleep(0.01)
        texts = [entry["content"]["text"] for entry in application.entries.values()]
        assert texts == ["1", "<b>0</b>", "2"]


async def test_a_key_without_the_scopes_is_told_so_and_the_rest_goes_on(open_world):
    async with (
        open_application(lambda: Manner.REFUSE) as application,
        open_world(webhooks=webhooks(application.url), http={"api_keys": KEYS}) as world,
    ):
        await put_aside(world, ["0"])

        def look(page):
            page.clock.install()
            page.reload()
            page.get_by_label("API key").fill(POSTER)
            page.get_by_role("button", name="Sign in").click()
            page.locator("#sign-in-error", has_text="scope").wait_for()
            page.get_by_label("API key").fill(READER)
            page.get_by_role("button", name="Sign in").click()
            page.get_by_role("button", name="List the entries of shop that were put aside").click()
            page.get_by_role("button", name="Repeat all").click()
            page.get_by_role("button", name="Deliver again").click()
            page.locator("#webhooks-told", has_text="Nothing was repeated:").wait_for()
            assert "admin" in page.locator("#webhooks-told").text_content()
            assert page.locator("#aside-body tr").count() == 1
            # It goes on to show what comes.
            world.call(put_aside, world, ["1"])
            page.clock.fast_forward(SOME_SECONDS_MS)
            page.locator("#aside-body tr").nth(1).wait_for()
            page.locator("#state", has_text="ready").wait_for()

        await world.browse(look, signed_in=False)


async def test_without_webhooks_there_is_no_such_section(world):
    def look(page):
        with page.expect_response("**/api/webhooks"):
            page.reload()
        page.locator("#state", has_text="ready").wait_for()
        assert not page.locator("#webhooks").is_visible()

    await world.browse(look)


async def test_queues_that_cannot_be_read_break_nothing_else(open_world):
    async with (
        open_application() as application,
        open_world(webhooks=webhooks(application.url)) as world,
    ):

        def look(page):
            page.clock.install()
            page.reload()
            row_of(page, "audit").wait_for()
            answer = '{"detail": "the engine cannot be reached"}'
            page.route("**/api/webhooks", lambda route: route.fulfill(status=503, body=answer))
            page.clock.fast_forward(SOME_SECONDS_MS)
            page.get_by_text("the engine cannot be reached").wait_for()
            assert cells(row_of(page, "audit"))[0] == "audit"
            page.locator("#state", has_text="ready").wait_for()
            page.unroute("**/api/webhooks")
            page.clock.fast_forward(SOME_SECONDS_MS)
            page.get_by_text("the engine cannot be reached").wait_for(state="hidden")

        await world.browse(look)
