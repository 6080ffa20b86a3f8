"""Tags and exclusions of services' messages, by every route, and the filter of an event stream."""

import json
from urllib.parse import quote

import pytest
import trio

from actors import Reply
from broker.errors import Refused
from broker.model import EventHeader, Excluded, Shown, TagFilter
from broker.notices import RoomEvent, Withheld
from broker.protocol.tags import check_excluded, check_tags
from broker.rooms.messages import Join
from tests.http.test_events import listen
from tests.support.members import Person

TAGS = {"kind": "goal", "match": "final"}
ANN_AND_C2 = Excluded("c2", "ann")


async def join(world, user_id, connection, wanted=None, room="lobby"):
    member = Person(user_id, shown=Shown(user_id, connection))
    reply = Reply()
    ref = await world.rooms.tell(room, Join(member, None, None, reply, wanted=wanted))
    await ref.wait_reply(reply)
    return member


def query(**options):
    return "?" + "&".join(f"{name}={quote(value)}" for name, value in options.items())


ROUTES = {
    "post": ("/api/rooms/lobby/messages", lambda message, _: json.dumps(message), True),
    "broadcast": (
        "/api/broadcast",
        lambda message, _: json.dumps({"rooms": ["lobby"], "message": message}),
        True,
    ),
    "lines": (
        "/api/messages",
        lambda message, options: json.dumps({"room": "lobby", "message": message, **options}),
        False,
    ),
}


async def publish(world, route, message, **options):
    """Publish with options, and return the status, and the error of a line."""
    path, body, in_query = ROUTES[route]
    if in_query and "tags" in options:
        options["tags"] = json.dumps(options["tags"])
    response = await world.client.post(
        path + (query(**options) if in_query and options else ""), content=body(message, options)
    )
    if route == "lines" and "error" in response.json():
        return 422, response.json()["error"]["message"]
    return response.status_code, response.json().get("detail", "")


@pytest.mark.parametrize("route", ROUTES)
async def test_a_message_has_tags_and_is_kept_from_a_user_and_a_connection(world, route):
    everyone = [
        await join(world, user, c) for user, c in (("ann", "c1"), ("bob", "c2"), ("bob", "c3"), ("ann", "c4"))
    ]
    follower = await join(world, "cas", "c5", TagFilter.of({"kind": ["goal"]}))
    message = {"type": "note", "tags": "its own"}
    assert await publish(world, route, message) == (200, "")
    options = {"tags": TAGS, "exclude_user": "ann", "exclude_connection": "c2"}
    assert await publish(world, route, message, **options) == (200, "")
    header = EventHeader("note", tags=tuple(TAGS.items()), excluded=ANN_AND_C2)
    for member in everyone:
        heard = [notice for notice in member.heard if isinstance(notice, RoomEvent | Withheld)]
        assert heard[0].event.header == EventHeader("note")
        if member is everyone[2]:
            assert heard[1].event.header == header
            assert json.loads(heard[1].event.content) == message, "it is passed on as it is"
        else:
            assert (heard[1].first, heard[1].offset) == (2, 2)
    assert follower.offsets() == [2]
    assert [(n.first, n.offset) for n in follower.heard_of(Withheld)] == [(1, 1)]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tags", {"kind": 1}),
        ("tags", {"": "x"}),
        ("tags", {"kind": "x" * 65}),
        ("tags", {str(n): "x" for n in range(9)}),
        ("tags", ["kind"]),
        ("exclude_user", "x" * 129),
        ("exclude_user", ""),
        ("exclude_connection", "x" * 129),
        ("exclude_connection", ""),
    ],
)
async def test_options_that_are_refused_are_named(world, route, field, value):
    status, detail = await publish(world, route, {"type": "note"}, **{field: value})
    assert (status, field in detail) == (422 if route == "lines" else 400, True), detail
    assert world.rooms.list_here(limit=10) == []


async def test_a_program_with_rooms_inside_has_the_same_options():
    assert check_tags(None) is None
    assert check_tags(TAGS) == TAGS
    assert check_excluded(None, None) is None
    assert check_excluded("ann", "c2") == ANN_AND_C2
    # Only a program can give a string that is no text; JSON and queries are refused before.
    for tags in ({"kind": "\ud800"}, {"\udfff": "goal"}):
        with pytest.raises(Refused, match=r"tags: .*surrogate"):
            check_tags(tags)
    with pytest.raises(Refused, match=r"exclude_user: .*surrogate"):
        check_excluded("\ud800", None)
    with pytest.raises(Refused, match=r"exclude_connection: .*surrogate"):
        check_excluded(None, "\ud800")
    for tags in ({"kind": 1}, {"": "x"}, {"kind": "x" * 65}):
        with pytest.raises(Refused, match="tags"):
            check_tags(tags)
    with pytest.raises(Refused, match="exclude_user"):
        check_excluded("", None)


async def test_an_event_stream_has_a_filter_and_its_ids_go_on(world):
    async with world.connect() as client:
        listener = await listen(client, query=query(tags='{"kind":["goal"]}'))
        assert (await listener.message())["type"] == "joined"
        for number in range(3):
            await publish(world, "post", {"type": "note", "n": number})
        await publish(world, "post", {"type": "note", "n": 3}, tags=TAGS)
        withheld = await listener.message()
        assert withheld == {
            "type": "withheld",
            "room": "lobby",
            "from": 1,
            "offset": 3,
            "epoch": withheld["epoch"],
        }
        assert listener.last_id == f"{withheld['epoch']}:3"
        assert (await listener.message())["n"] == 3
        assert listener.last_id == f"{withheld['epoch']}:4"
    await publish(world, "post", {"type": "note", "n": 4})
    await publish(world, "post", {"type": "note", "n": 5}, tags=TAGS)
    async with world.connect() as client:
        again = await listen(
            client, "lobby", f"Last-Event-ID: {listener.last_id}", query=query(tags='{"kind":["goal"]}')
        )
        assert (await again.message())["recovered"]
        assert [(await again.message()).get("n", "withheld") for _ in range(2)] == ["withheld", 5]
        assert again.last_id.endswith(":6")


@pytest.mark.parametrize("tags", ["{", "1", '{"kind":"goal"}', '{"kind":[]}'])
async def test_a_filter_of_an_event_stream_that_is_refused_is_named(world, tags):
    with trio.fail_after(60):
        response = await world.client.get("/api/rooms/lobby/events" + query(tags=tags))
    assert (response.status_code, response.json()["detail"].startswith("tags")) == (400, True), response.text
