"""Signing in: who has no key sees a form and nothing else, and the key stays in its tab."""

from typing import TYPE_CHECKING

import pytest

from tests.support.secrets import API_KEY

if TYPE_CHECKING:
    from playwright.sync_api import Page


def everything_kept(page: "Page") -> str:
    """Return what the page has put where it outlives the tab, or is shown and copied."""
    return page.evaluate(
        """async () => JSON.stringify([location.href, document.cookie, {...localStorage},
        await indexedDB.databases(), await caches.keys(), history.state])"""
    )


async def test_without_a_key_there_is_only_a_form(world, shoot):
    def look(page):
        assert page.get_by_label("API key").is_visible()
        assert not page.locator("#console").is_visible()
        assert page.locator("button:visible").all_text_contents() == ["Sign in"]
        shoot(page, "sign-in")

    await world.browse(look, signed_in=False)


async def test_a_wrong_key_is_refused_and_the_right_one_opens(world):
    def look(page):
        page.get_by_label("API key").fill("wrong")
        page.keyboard.press("Enter")
        page.get_by_text("This key is not accepted.").wait_for()
        assert page.evaluate("sessionStorage.length") == 0
        page.get_by_label("API key").fill(API_KEY)
        page.keyboard.press("Enter")
        page.locator("#state", has_text="ready").wait_for()
        assert page.get_by_role("heading", name="Rooms").is_visible()

    await world.browse(look, signed_in=False)


async def test_the_key_stays_in_the_tab_and_only_until_one_signs_out(world):
    def look(page):
        page.locator("#state", has_text="ready").wait_for()
        assert page.url == f"{world.url}/"
        assert API_KEY not in everything_kept(page)
        assert API_KEY not in page.content()
        page.reload()
        page.locator("#state", has_text="ready").wait_for()
        other = page.context.new_page()
        other.goto(world.url)
        other.get_by_label("API key").wait_for()
        other.close()
        page.get_by_role("button", name="Sign out").click()
        page.get_by_label("API key").wait_for()
        assert page.evaluate("sessionStorage.length") == 0
        page.reload()
        page.get_by_label("API key").wait_for()
        page.go_back()
        assert API_KEY not in page.url

    await world.browse(look)


@pytest.mark.parametrize("signed_in", [False, True])
async def test_a_key_pasted_into_an_open_page_is_taken_out_of_the_address(world, signed_in):
    def look(page):
        page.locator("#state", has_text="ready" if signed_in else "signed out").wait_for()
        page.evaluate("key => { location.hash = `#key=${key}&room=lobby`; }", API_KEY)
        page.locator("#state", has_text="ready").wait_for()
        page.get_by_role("heading", name="lobby").wait_for()
        assert page.url == f"{world.url}/#room=lobby"

    await world.browse(look, signed_in=signed_in)


@pytest.mark.parametrize("signed_in", [False, True])
async def test_a_reload_before_the_server_answered_keeps_the_key(world, signed_in):
    def look(page):
        page.locator("#state", has_text="ready" if signed_in else "signed out").wait_for()
        page.evaluate("sessionStorage.clear()")
        page.route("**/api/**", lambda route: None)  # no answer
        page.evaluate("key => { location.hash = `#key=${key}&room=lobby`; }", API_KEY)
        page.wait_for_url(f"{world.url}/#room=lobby")
        page.unroute("**/api/**")
        page.reload()
        page.get_by_role("heading", name="lobby").wait_for()

    await world.browse(look, signed_in=signed_in)


async def test_a_key_of_the_address_that_is_refused_is_not_kept(world):
    def look(page):
        page.goto(f"{world.url}/#key=wrong")
        page.locator("#sign-in-error", has_text="not accepted").wait_for()
        assert page.evaluate("sessionStorage.length") == 0

    await world.browse(look, signed_in=False)


async def test_no_request_has_the_key_in_its_address(world):
    def look(page):
        addresses = []
        page.on("request", lambda request: addresses.append(request.url))
        page.goto(f"{world.url}/#key={API_KEY}&room=lobby")
        page.reload()
        page.get_by_role("heading", name="lobby").wait_for()
        page.locator("#room-count", has_text="0 connections").wait_for()
        assert len(addresses) > 5
        assert not [address for address in addresses if API_KEY in address.partition("#")[0]]

    await world.browse(look)
