"""Several nodes: a line for each, all of them together, and each by itself."""

import httpx2
import pytest
import trio

from broker.http.nodes.siblings import Siblings, sibling_folder
from tests.support.patience import PATIENCE_SECONDS

SIZES = {"desk": (1280, 900), "phone": (360, 740)}


@pytest.fixture
async def worlds(open_world):
    """Two nodes that know each other as the workers of one machine do."""
    with sibling_folder() as folder:
        async with (
            open_world(siblings=Siblings(folder, 0, 2), server={"node_name": "web-a"}) as one,
            open_world(siblings=Siblings(folder, 1, 2), server={"node_name": "web-b"}) as two,
        ):
            yield one, two


async def until_both_have_points(world) -> None:
    with trio.fail_after(PATIENCE_SECONDS):
        while True:
            state = (await world.http.get("/api/node", params={"node": "all"})).json()
            if len(state["traffic"]) >= 3:
                return
            await trio.sleep(0.1)


async def test_the_api_tells_of_both_whichever_is_asked(worlds):
    await worlds[0].enter("lobby", "ann")
    for user in ("bob", "carol"):
        await worlds[1].enter("lobby", user)
    for world in worlds:
        state = (await world.http.get("/api/node", params={"node": "all"})).json()
        assert state["connections"] == 3
        assert state["rooms"]["members"] == 3
        names = [node["name"].partition(":")[0] for node in state["nodes"]]
        assert names == ["web-a", "web-b"]
        for node, count in zip(state["nodes"], (1, 2), strict=True):
            one = (await world.http.get("/api/node", params={"node": node["name"]})).json()
            assert (one["name"], one["connections"], node["connections"]) == (node["name"], count, count)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
async def test_all_are_shown_and_then_the_one_that_is_chosen(worlds, shoot, scheme, size):
    one, two = worlds
    await one.enter("lobby", "ann")
    await two.enter("den", "bob")
    await two.enter("den", "carol")
    await until_both_have_points(one)
    width, height = SIZES[size]

    def look(page):
        rows = page.locator("#nodes-body tr")
        rows.nth(2).wait_for()
        assert rows.locator("button").all_text_contents()[0] == "All nodes"
        assert rows.nth(0).locator("button").get_attribute("aria-pressed") == "true"
        assert rows.nth(0).locator("td").nth(2).text_content() == "3"
        page.locator("#node-line", has_text="2 nodes").wait_for(state="attached")
        page.locator("#plot-connections .now", has_text="3").wait_for()
        assert page.locator("#rooms-body tr").count() == 2
        shoot(page, f"nodes-{size}-{scheme}")
        assert page.evaluate("document.documentElement.scrollWidth") == width
        page.get_by_role("button", name="web-b").click()
        page.locator("#node-line", has_text="web-b").wait_for(state="attached")
        page.locator("#plot-connections .now", has_text="2").wait_for()
        page.locator("#rooms-body tr", has_text="lobby").wait_for(state="detached")
        assert page.get_by_role("button", name="web-b").get_attribute("aria-pressed") == "true"
        page.get_by_role("button", name="All nodes").click()
        page.locator("#node-line", has_text="2 nodes").wait_for(state="attached")
        page.locator("#plot-connections .now", has_text="3").wait_for()

    await one.browse(look, color_scheme=scheme, viewport={"width": width, "height": height})


async def test_a_node_that_is_gone_is_told_and_all_are_shown_again(open_world):
    with sibling_folder() as folder:
        async with open_world(siblings=Siblings(folder, 0, 2), server={"node_name": "web-a"}) as one:
            end, ended = trio.Event(), trio.Event()

            async def serve(*, task_status):
                async with open_world(siblings=Siblings(folder, 1, 2), server={"node_name": "web-b"}):
                    task_status.started()
                    await end.wait()
                ended.set()

            async def stop_other():
                end.set()
                await ended.wait()

            def look(page):
                page.get_by_role("button", name="web-b").click()
                page.locator("#node-line", has_text="web-b").wait_for(state="attached")
                one.call(stop_other)
                page.locator("#nodes-count", has_text="1 did not answer").wait_for()
                page.get_by_role("button", name="All nodes").wait_for()
                assert page.get_by_role("button", name="All nodes").get_attribute("aria-pressed") == "true"
                assert page.get_by_role("button", name="web-b").count() == 0

            async with trio.open_nursery() as nursery:
                await nursery.start(serve)
                await one.browse(look)


async def test_one_node_alone_has_no_list(world):
    def look(page):
        page.locator("#state", has_text="ready").wait_for()
        assert not page.locator("#nodes").is_visible()
        assert page.locator("#node-line").text_content().startswith(world.broker._http.node.name)

    await world.browse(look)


async def test_the_list_needs_the_key(worlds):
    async with httpx2.AsyncClient(base_url=worlds[0].url) as stranger:
        assert (await stranger.get("/api/node", params={"node": "all"})).status_code == 401
