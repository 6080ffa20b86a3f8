"""`GET /api/explain` says what then happens: the same code decides."""

import json
import time
from typing import TYPE_CHECKING

import jwt
import pytest

from broker.auth.permissions import Ground
from broker.errors import ErrorCode, Refused
from broker.hooks import Hook
from broker.room_actors import Member, RoomActor
from broker.sessions.connections import RecentCloses
from broker.sessions.explain import Action
from broker.sessions.recent_closes import AGE_SECONDS, CLOSES_PER_USER, Close
from broker.transport.last_sent import seconds_since_sent
from tests.support.secrets import SECRET

if TYPE_CHECKING:
    from tests.support.served import Client, Serve, Served

RULES = [
    {"pattern": "closed.*", "access": "none"},
    {"pattern": "named.*", "access": "token"},
    {"pattern": "quiet.*", "presence_data": False},
    {"pattern": "open.*"},
]
EVERYTHING = dict.fromkeys(map(str, Action), "allowed") | {"call": "refused"}
NOTHING = dict.fromkeys(map(str, Action), "refused")

# The claims of the token, the room, the ground and `by` of the join, and the verdicts that differ from EVERYTHING.
CASES = {
    "no rule": ({}, "lobby", "no_rule", None, {}),
    "rule": ({}, "open.1", "room_rule", "open.*", {}),
    "closed by a rule": ({}, "closed.1", "room_rule", "closed.*", NOTHING),
    "rule wants a name": ({}, "named.1", "room_rule", "named.*", NOTHING),
    "rule has a name": ({"rooms": ["named.*"]}, "named.1", "room_rule", "named.*", {}),
    "rooms": ({"rooms": ["x", "lob*"]}, "lobby", "claim_rooms", "lob*", {}),
    "not in rooms": ({"rooms": ["x"]}, "lobby", "claim_rooms", None, NOTHING),
    "own room": ({}, "user_ann", "private_room", None, {}),
    "room of another": ({"rooms": ["*"]}, "user_bob", "private_room", None, NOTHING),
    "no join": ({"can": ["chat"]}, "lobby", "claim_can", None, NOTHING),
    "only chat": (
        {"can": ["join", "chat"]},
        *("lobby", "no_rule", None),
        {"publish": "refused", "presence": "refused", "history": "refused"},
    ),
    "no chat": (
        {"can": ["join", "publish", "history", "presence", "call"]},
        "lobby",
        "no_rule",
        None,
        {"chat": "refused"},
    ),
    "hidden": ({"hidden": True}, "lobby", "no_rule", None, {"set_state": "refused"}),
    "no state": ({}, "quiet.1", "room_rule", "quiet.*", {"set_state": "refused"}),
}
REQUESTS = {
    "chat": ("ack", {"type": "chat", "text": "hi"}),
    "publish": ("ack", {"type": "publish", "event": "e", "data": 1}),
    "presence": ("presence", {"type": "presence"}),
    "history": ("history", {"type": "history"}),
    "call": ("result", {"type": "call", "method": "m"}),
    "set_state": ("ack", {"type": "set_state", "state": 1}),
}


def token(user: str = "ann", **claims: object) -> str:
    return jwt.encode({"sub": user, "exp": int(time.time()) + 600, **claims}, SECRET)


async def explain(served: "Served", room: str, jwt: str | None = None, user: str | None = None) -> dict:
    params = {"room": room} | ({} if user is None else {"user": user})
    headers = {} if jwt is None else {"Greenroom-Token": jwt}
    response = await served.http.get("/api/explain", params=params, headers=headers)
    assert response.status_code == 200, response.text
    return response.json()


def by_action(permissions: list[dict]) -> dict[str, dict]:
    return {each["action"]: each for each in permissions}


async def what_happens(client: "Client", room: str) -> dict[str, tuple[str, str | None]]:
    """Do everything once; returns whether it was allowed, and the message if not."""

    async def attempt(kind: str, **message: object) -> tuple[str, str | None]:
        await client.send(**message, id="1", room=room)
        while (answer := await client.receive()).get("id") != "1":
            pass
        return ("allowed", None) if answer["type"] == kind else ("refused", answer["message"])

    joined = await attempt("joined", type="join")
    if joined[0] == "refused":
        return {str(action): joined for action in Action}
    return {"join": joined} | {
        action: await attempt(kind, **message) for action, (kind, message) in REQUESTS.items()
    }


async def test_each_decision_is_the_one_that_is_then_made(serve: "Serve") -> None:
    async with serve(rooms=RULES) as served:
        for name, (claims, room, ground, by, differing) in CASES.items():
            one = token(**claims)
            answer = await explain(served, room, one)
            assert answer["token"]["is_accepted"], name
            found = by_action(answer["permissions"])
            assert {action: each["verdict"] for action, each in found.items()} == EVERYTHING | differing, name
            assert (found["join"]["ground"], found["join"]["by"]) == (ground, by), name
            async with served.dial(f"/ws?token={one}") as client:
                happened = await what_happens(client, room)
                # The connection is explained by its own token.
                [node] = (await explain(served, room, user="ann"))["nodes"]
                assert by_action(node["connections"][-1]["permissions"]) == found, name
            assert {
                action: (each["verdict"], each["detail"]) for action, each in found.items()
            } == happened, name


async def test_a_refusal_after_the_join_names_its_ground(serve: "Serve") -> None:
    async with serve(rooms=RULES) as served:
        for claims, room, action, ground in (
            ({"can": ["join"]}, "lobby", "chat", "claim_can"),
            ({"hidden": True}, "lobby", "set_state", "hidden"),
            ({}, "quiet.1", "set_state", "presence_data"),
            ({}, "lobby", "call", "no_hook"),
        ):
            found = by_action((await explain(served, room, token(**claims)))["permissions"])
            assert (found[action]["verdict"], found[action]["ground"]) == ("refused", ground)


async def test_hooks_are_named_and_not_asked(serve: "Serve") -> None:
    async def decide(ask: object) -> bool:
        raise AssertionError("asked")

    hook = Hook(decide, on=("join", "publish", "call"), rooms=("order-*",))
    async with serve(parts={"hooks": [hook]}) as served:
        found = by_action((await explain(served, "order-1", user="ann"))["permissions"])
        asked = {action for action, each in found.items() if each["verdict"] == "asked"}
        assert asked == {"join", "chat", "publish", "call"}
        assert {(found[action]["ground"], found[action]["by"]) for action in asked} == {("hook", "own 0")}
        assert (
            by_action((await explain(served, "lobby", user="ann"))["permissions"])["join"]["verdict"]
            == "allowed"
        )
        refused = by_action((await explain(served, "order-1", token(can=["join"])))["permissions"])
        assert (refused["chat"]["verdict"], refused["chat"]["ground"]) == ("refused", "claim_can")


async def test_the_code_of_a_room_is_named_and_not_asked(serve: "Serve") -> None:
    class Game(RoomActor[None], pattern="game.*"):
        async def on_join(self, member: Member) -> None:
            raise AssertionError("asked")

    async with serve(parts={"rooms": [Game]}) as served:
        found = by_action((await explain(served, "game.1", user="ann"))["permissions"])
        asked = {action for action, each in found.items() if each["verdict"] == "asked"}
        assert asked == {"join", "chat", "publish", "call"}
        assert {found[action]["ground"] for action in asked} == {"code"}
        refused = by_action((await explain(served, "game.1", token(can=["join"])))["permissions"])
        assert (refused["call"]["verdict"], refused["call"]["ground"]) == ("refused", "claim_can")


async def test_the_policy_of_a_program_is_asked(serve: "Serve") -> None:
    class Policy:
        def check(self, claims: object, room: str, capability: object) -> None:
            if room != "den":
                raise Refused(ErrorCode.FORBIDDEN, "only the den")

    async with serve(parts={"policy": Policy()}) as served:
        join = by_action((await explain(served, "den", user="ann"))["permissions"])["join"]
        assert (join["verdict"], join["ground"]) == ("allowed", "own_policy")
        join = by_action((await explain(served, "lobby", user="ann"))["permissions"])["join"]
        assert (join["verdict"], join["ground"], join["detail"]) == ("refused", "own_policy", "only the den")


async def test_a_token_that_is_not_accepted_may_nothing_and_says_why(serve: "Serve") -> None:
    secrets = {"secret": SECRET, "previous_secret": "another-secret-0123456789-abcdefgh"}
    async with serve(auth={"previous_secret": secrets["previous_secret"]}) as served:
        for wrong, reason, detail in (
            (token(exp=1), "token_expired", "token has expired (exp)"),
            (token()[:-6] + "AAAAAA", "token_signature", "token signature is wrong"),
            ("x", "token_malformed", "token is malformed"),
            (jwt.encode({"exp": 2e9}, SECRET), "token_claim", "token has no sub claim: it is the user's id"),
        ):
            answer = await explain(served, "lobby", wrong)
            assert answer["token"]["is_accepted"] is False
            assert (answer["token"]["reason"], answer["token"]["detail"]) == (reason, detail)
            assert {(each["verdict"], each["ground"], each["detail"]) for each in answer["permissions"]} == {
                ("refused", "token", detail)
            }
            assert (answer["user_id"], answer["nodes"]) == (None, [])
        for name, secret in secrets.items():
            answer = await explain(served, "lobby", jwt.encode({"sub": "ann"}, secret))
            assert (answer["token"]["issuer"], answer["token"]["key"]) == (None, name)
            assert (answer["user_id"], answer["token"]["expires_at"]) == ("ann", None)
        await served.http.post("/api/revocations", json={"user_id": "ann"})
        answer = await explain(served, "lobby", user="ann")
        assert {(each["verdict"], each["ground"]) for each in answer["permissions"]} == {("refused", "token")}
        answer = await explain(served, "lobby", token(), user="ann")
        assert answer["token"]["reason"] == "token_revoked"


async def test_every_ground_has_a_case() -> None:
    """Those in the tables above, and those of tests of their own."""
    own = {"claim_can", "code", "hidden", "presence_data", "no_hook", "hook", "own_policy", "token"}
    assert own | {case[2] for case in CASES.values()} == {ground.value for ground in Ground}


async def test_it_needs_a_room_and_a_user_or_a_token(serve: "Serve") -> None:
    async with serve() as served:
        for params, headers in (
            ({"user": "ann"}, {}),
            ({"room": "lobby"}, {}),
            ({"room": "a/b", "user": "ann"}, {}),
            ({"room": "lobby", "user": "bob"}, {"Greenroom-Token": token()}),
            ({"room": "lobby", "user": "ann", "colour": "red"}, {}),
        ):
            response = await served.http.get("/api/explain", params=params, headers=headers)
            assert response.status_code in {400, 422}, params
        assert "lobby" not in json.dumps((await served.http.get("/api/rooms")).json())


async def test_it_tells_where_the_user_is_how_far_the_room_is_and_how_connections_ended(
    serve: "Serve",
) -> None:
    async with serve() as served:
        nothing = await explain(served, "den", user="ann")
        [node] = nothing["nodes"]
        assert (node["room"], node["connections"], node["closes"]) == (None, [], [])
        assert nothing["silent_nodes"] == 0
        async with served.connect("/ws/den") as ann, served.connect("/ws"):
            await ann.receive("joined")
            placed = (await served.http.post("/api/rooms/den/messages", json={"type": "note"})).json()
            await ann.receive("note")
            [node] = (await explain(served, "den", user="ann"))["nodes"]
            assert node["room"] == {"room_size": 1, "offset": 1, "epoch": placed["epoch"]}
            first, second = node["connections"]
            assert (first["is_in_room"], second["is_in_room"]) == (True, False)
            for each in node["connections"]:
                assert each["transport"] == "websocket"
                assert each["queued_bytes"] == 0
                assert 0 <= each["last_write_ms"] < 60_000
                assert abs(each["since_ms"] / 1000 - time.time()) < 60
                assert each["token_expires_at"] > time.time()
            stream = f"/api/rooms/den/events?token={token()}"
            async with served.http.stream("GET", stream, headers={"Authorization": ""}) as listening:
                assert listening.status_code == 200, await listening.aread()
                [node] = (await explain(served, "den", user="ann"))["nodes"]
                third = node["connections"][2]
                assert (third["transport"], third["is_in_room"]) == ("event_stream", True)
            await served.http.delete("/api/users/ann")
            assert (await ann.close_code())[0] == 4004
        closes: list[dict] = []
        while len(closes) < 2:
            closes = (await explain(served, "den", user="ann"))["nodes"][0]["closes"]
        assert {(each["code"], each["reason"], each["by"]) for each in closes} == {
            (4004, "removed by the application", "server")
        }
        async with served.connect("/ws", user_id="bob") as bob:
            await bob.ask("pong", type="ping")
            await bob.connection.aclose(3001, "tired")
        [node] = (await explain(served, "den", user="bob"))["nodes"]
        while not node["closes"]:
            [node] = (await explain(served, "den", user="bob"))["nodes"]
        [close] = node["closes"]
        assert (close["code"], close["reason"], close["by"]) == (3001, "tired", "client")
        assert abs(close["time"] / 1000 - time.time()) < 60


def test_recent_closes_are_bounded_in_users_in_number_and_in_age() -> None:
    closes = RecentCloses(most_users=3)
    for second in range(20):
        closes.note("ann", Close(second, 1000 + second, "", is_by_client=True))
    assert [close.code for close in closes.of("ann", 20)] == [1019, 1018, 1017, 1016, 1015]
    assert len(closes.of("ann", AGE_SECONDS + 17)) == CLOSES_PER_USER - 3
    for number in range(10):
        closes.note(f"user {number}", Close(30, 1000, "", is_by_client=True))
        assert len(closes) <= 3
    assert closes.of("ann", 30) == []
    for _ in range(2):
        closes.note("late", Close(30 + AGE_SECONDS, 1000, "", is_by_client=True))
    assert len(closes) == 1, "what is too old goes, a little at a time"


@pytest.mark.parametrize("descriptor", [None, 10_000_000])
def test_what_is_no_socket_has_no_last_write(descriptor: int | None) -> None:
    assert seconds_since_sent(descriptor) is None
