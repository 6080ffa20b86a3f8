"""The actions in the console: publish, remove, make tokens, join as a user."""

from tests.support.patience import PATIENCE_SECONDS
from tests.support.secrets import API_KEY


def open_room(page, name):
    page.get_by_label("Name of a room").fill(name)
    page.keyboard.press("Enter")
    page.locator("#room-count", has_text="connection").wait_for()


async def test_publishing_reaches_the_room_and_says_where_it_is(world):
    await world.enter("lobby", "ann")

    def look(page):
        open_room(page, "lobby")
        page.get_by_label("Type").fill("order_update")
        page.get_by_label("Fields, as JSON").fill('{"order_id": 5}')
        page.get_by_role("button", name="Publish", exact=True).click()
        page.get_by_text("Stored as #1, for 1 connection.").wait_for()
        line = page.locator("#room-log li", has_text="order_update")
        line.wait_for()
        assert '{"order_id":5}' in line.text_content()
        page.get_by_label("not stored").check()
        page.get_by_role("button", name="Publish", exact=True).click()
        page.get_by_text("Sent, not stored, for 1 connection.").wait_for()
        page.locator("#room-log .offset", has_text="not stored").wait_for()

    await world.browse(look)


async def test_what_cannot_be_published_is_said_and_not_sent(world):
    def look(page):
        open_room(page, "lobby")
        for fields in ("{", "[1]", "5", "null"):
            page.get_by_label("Fields, as JSON").fill(fields)
            page.get_by_role("button", name="Publish", exact=True).click()
            page.get_by_text("The fields are no JSON object").wait_for()
            page.evaluate("document.getElementById('composer-told').textContent = ''")
        page.get_by_label("Fields, as JSON").fill("{}")
        page.get_by_label("Type").fill("chat")
        page.get_by_role("button", name="Publish", exact=True).click()
        page.get_by_text("Not published: type:").wait_for()
        assert page.locator("#room-log li").count() == 0

    await world.browse(look)


async def test_a_user_is_removed_from_the_room_or_from_everywhere_after_a_question(world):
    await world.enter("lobby", "ann")
    await world.enter("den", "ann")
    await world.enter("lobby", "bob")

    def look(page):
        open_room(page, "lobby")
        page.get_by_role("button", name="Remove ann").click()
        page.get_by_role("button", name="Cancel").click()
        page.get_by_role("button", name="Remove ann").click()
        page.get_by_role("button", name="Remove from this room").click()
        page.get_by_text("1 connection of ann removed from lobby").wait_for()
        page.locator("#members-list").get_by_text("ann").wait_for(state="detached")
        page.locator("#room-log").get_by_text("ann left").wait_for()
        page.get_by_role("button", name="Remove bob").click()
        page.get_by_role("button", name="Close all connections").click()
        page.get_by_text("1 connection of bob closed").wait_for()

    await world.browse(look)
    users = [connection.user_id for connection in world.broker.connections]
    # Ann is only out of a room, and not out of the other one.
    assert [user for user in users if not user.startswith("api/")] == ["ann", "ann"]
    assert (await world.broker.rooms.inspect("den")).users == (("ann", 1),)


async def test_a_token_is_made_for_a_trial(world):
    def look(page):
        page.get_by_role("button", name="Make a token").click()
        page.get_by_role("textbox", name="User", exact=True).fill("carol")
        page.get_by_label("Rooms it may join").fill("den, team.*")
        page.get_by_role("button", name="Make", exact=True).click()
        page.get_by_text("For carol, good for 1 h.").wait_for()
        token = page.get_by_role("textbox", name="Token", exact=True).input_value()
        page.get_by_role("button", name="Close", exact=True).click()
        # What was shown is not left behind in the page.
        page.wait_for_function("document.getElementById('mint-token').value === ''")
        return token

    token = await world.browse(look)
    headers = {"Authorization": f"Bearer {token}"}
    for room, status in (("den", 200), ("lobby", 403)):
        assert (await world.http.head(f"/api/rooms/{room}/events", headers=headers)).status_code == status


async def test_without_dev_no_token_can_be_made(open_world):
    async with open_world(dev=False) as world:

        def look(page):
            page.locator("#state", has_text="ready").wait_for()
            assert not page.get_by_role("button", name="Make a token").is_visible()
            open_room(page, "lobby")
            page.get_by_role("tab", name="Try it as a user").click()
            page.locator("#try-who-label", has_text="Client token").wait_for()

        await world.browse(look)


async def test_what_is_pasted_and_can_be_no_token_is_said_and_not_tried_again(open_world):
    async with open_world(dev=False) as world:

        def look(page):
            page.locator("#state", has_text="ready").wait_for()
            open_room(page, "lobby")
            page.get_by_role("tab", name="Try it as a user").click()
            page.get_by_label("Client token", exact=True).fill("not a token")
            page.get_by_role("button", name="Join").click()
            page.get_by_text("Not in the room: the token is malformed").wait_for()

        await world.browse(look)


async def test_two_tabs_chat_as_users(world):
    def look(page):
        tabs = []
        for user in ("ann", "bob"):
            tab = page.context.new_page()
            tab.set_default_timeout(PATIENCE_SECONDS * 1000)
            tab.goto(f"{page.url}#key={API_KEY}&room=lobby")
            tab.get_by_role("tab", name="Try it as a user").click()
            tab.get_by_label("User id").fill(user)
            tab.get_by_role("button", name="Join").click()
            tab.get_by_text(f"In the room as {user}").wait_for()
            tabs.append(tab)
        ann, bob = tabs
        ann.get_by_placeholder("Say something").fill("hello")
        ann.keyboard.press("Enter")
        bob.locator("#room-log li", has_text="hello").wait_for()
        bob.get_by_placeholder("Say something").fill("hello yourself")
        bob.keyboard.press("Enter")
        ann.locator("#room-log li", has_text="hello yourself").wait_for()
        assert (
            ann.locator("#room-log li.mine").all_text_contents()
            == bob.locator("#room-log li:not(.mine)", has_text="#1").all_text_contents()
        )
        bob.get_by_role("button", name="Leave").click()
        ann.locator("#room-log").get_by_text("bob left").wait_for()
        ann.close()
        bob.locator("#room-log").get_by_text("ann left").wait_for()

    await world.browse(look)


async def test_a_user_that_is_removed_is_told_so_where_it_tries(world):
    def look(page):
        open_room(page, "lobby")
        page.get_by_role("tab", name="Try it as a user").click()
        page.get_by_label("User id").fill("ann")
        page.get_by_role("button", name="Join").click()
        page.get_by_text("In the room as ann").wait_for()
        page.get_by_role("button", name="Remove ann").click()
        page.get_by_role("button", name="Close all connections").click()
        page.get_by_role("button", name="Join").wait_for()
        assert page.locator("#members-list .who").count() <= 1

    await world.browse(look)
