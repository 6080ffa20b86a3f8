"""Each refused connection is counted by reason and by close code, and logged."""

from typing import Any

import pytest
import trio

from broker.auth.mint import mint_token
from broker.errors import ErrorCode, RefusalReason
from tests.support.peers import BINARY, PING, PONG, TEXT, RawPeer, client_frame, handshake
from tests.support.secrets import SECRET

OTHER_SECRET = "another secret, which is long enough"


def signed(node, *, secret=SECRET, ttl_seconds=3600, shift=0.0, user="ann", **claims):
    now = node.wall_clock() + shift
    return mint_token(
        secret=secret, algorithm="HS256", user_id=user, ttl_seconds=ttl_seconds, now=now, **claims
    )


async def turned_away(node, target, code, **options):
    client = await node.client(target=target, **options)
    assert await client.read_code() == code


async def no_token(node):
    await turned_away(node, "/ws/lobby", 4001)


async def empty_token(node):
    await turned_away(node, "/ws/lobby?token=", 4001)


async def two_tokens(node):
    await turned_away(node, "/ws/lobby?token=a&token=b", 4001)


async def no_jwt(node):
    await turned_away(node, "/ws/lobby?token=nonsense", 4001)


async def long_token(node):
    await turned_away(node, f"/ws/lobby?token={'x' * 9000}", 4001)


async def another_signature(node):
    await turned_away(node, f"/ws/lobby?token={signed(node, secret=OTHER_SECRET)}", 4001)


async def another_algorithm(node):
    token = mint_token(
        secret=SECRET * 2, algorithm="HS512", user_id="ann", ttl_seconds=9, now=node.wall_clock()
    )
    await turned_away(node, f"/ws/lobby?token={token}", 4001)


async def old_token(node):
    await turned_away(node, f"/ws/lobby?token={signed(node, shift=-9999.0, ttl_seconds=1)}", 4001)


async def plain_token(node):
    await turned_away(node, f"/ws/lobby?token={signed(node)}", 4001)


async def room_of_another(node):
    await turned_away(node, f"/ws/user_bob?token={signed(node)}", 4003)


async def bad_room(node):
    await turned_away(node, f"/ws/a%2Fb?token={signed(node)}", 4003)


async def another_origin(node):
    await turned_away(node, f"/ws?token={signed(node)}", 4003, headers=[(b"origin", b"https://evil.example")])


async def draining(node):
    node.begin_drain()
    await turned_away(node, f"/ws?token={signed(node)}", 1012)


async def second_of_user(node):
    await node.client("ann", "lobby")
    await turned_away(node, f"/ws?token={signed(node)}", 4129)


async def second_of_address(node):
    await node.client("ann", "lobby")
    await turned_away(node, f"/ws?token={signed(node)}", 4129)


async def second_of_address_by_http(node):
    await node.client("ann", "lobby")
    await raw(node, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"429")


async def second_of_node(node):
    await node.client("ann", "lobby")
    await raw(node, b"", b"503")


async def runs_out(node):
    client = await node.client(target=f"/ws?token={signed(node, ttl_seconds=3)}")
    assert await client.read_code() == 4101


async def refreshed_for_another(node):
    client = await node.client("ann", "lobby")
    await client.send(type="refresh", token=signed(node, user="bob"))
    assert await client.read_code() == 4001


async def says(node, **message):
    client = await node.client("ann", "lobby")
    assert (await client.ask(**message))["type"] == "error"


async def no_json(node):
    client = await node.client("ann", "lobby")
    await client.connection.send_message("{")
    await client.receive_type("error")


async def bad_message(node):
    await says(node, type="chat")


async def unknown_message(node):
    await says(node, type="shout")


async def in_no_room(node):
    await says(node, type="chat", text="x", room="elsewhere")


async def forbidden_room(node):
    await says(node, type="join", room="user_bob")


async def too_many_rooms(node):
    await says(node, type="join", room="another")


async def too_fast(node):
    client = await node.client("ann", "lobby")
    await client.send(type="ping")
    assert (await client.ask(type="ping"))["code"] == "rate_limited"


async def much_too_fast(node):
    client = await node.client("ann", "lobby")
    for _ in range(3):
        await client.send(type="ping")
    assert await client.read_code() == 4129


async def frames(node, data, code):
    peer = await node.raw_peer(node.target("lobby", token=node.token("ann")))
    await peer.send(data)
    assert (await peer.read_close())[0] == code


async def pong_flood(node):
    await frames(node, client_frame(PONG) * 100, 4129)


async def binary_frame(node):
    await frames(node, client_frame(BINARY, b"x"), 1003)


async def invalid_utf8(node):
    await frames(node, client_frame(TEXT, b"\xff"), 1007)


async def reserved_bit(node):
    await frames(node, client_frame(TEXT, b"x", rsv=4), 1002)


async def big_message(node):
    await frames(node, client_frame(TEXT, b"x" * 2000), 1009)


async def long_ping(node):
    await frames(node, client_frame(PING, b"x" * 200), 1002)


async def silent(node):
    await node.raw_peer(node.target("lobby", token=node.token("ann")))
    await trio.sleep(60)


async def raw(node, data, status=b""):
    stream = node.dial()
    await stream.send_all(data)
    got = await stream.receive_some()
    assert got.startswith(b"HTTP/1.1 " + status) if status else got == b""


async def nonsense(node):
    await raw(node, b"nonsense\r\n\r\n", b"400")


async def long_head(node):
    await raw(node, b"GET / HTTP/1.1\r\nA: " + b"x" * 20_000, b"431")


async def late_head(node):
    await raw(node, b"GET / HT", b"408")


async def cut_off_head(node):
    stream = node.dial()
    await stream.send_all(b"GET / HT")
    await stream.send_eof()
    assert await stream.receive_some() == b""


async def bad_handshake(node):
    await raw(node, handshake(f"/ws?token={signed(node)}").replace(b"Version: 13", b"Version: 9"), b"4")


async def no_proxy_header(node):
    peer = RawPeer(node.dial())
    await peer.send(handshake("/ws"))
    assert await peer.read_eof() == b""


async def silent_proxy(node):
    assert await RawPeer(node.dial()).read_eof() == b""


TRUSTING = {"trusted_proxies": ("10.0.0.1",), "proxy_protocol": True}

# Each with the settings it needs, what it is counted as, and the close codes counted besides.
SCENARIOS: list[tuple[Any, dict[str, Any], str, list[str]]] = [
    (no_token, {}, "token_missing", ["4001"]),
    (empty_token, {}, "token_missing", ["4001"]),
    (two_tokens, {}, "token_ambiguous", ["4001"]),
    (no_jwt, {}, "token_malformed", ["4001"]),
    (long_token, {}, "token_malformed", ["4001"]),
    (another_signature, {}, "token_signature", ["4001"]),
    (another_algorithm, {}, "token_key", ["4001"]),
    (old_token, {}, "token_expired", ["4001"]),
    (plain_token, {"auth": {"audience": "shop"}}, "token_audience", ["4001"]),
    (plain_token, {"auth": {"issuer": "shop"}}, "token_issuer", ["4001"]),
    (room_of_another, {}, "room", ["4003"]),
    (bad_room, {}, "room", ["4003"]),
    (another_origin, {"websocket": {"allowed_origins": ("https://a.example",)}}, "origin", ["4003"]),
    (draining, {}, "draining", ["1012"]),
    (second_of_user, {"limits": {"connections_per_user": 1}}, "user_full", ["4129"]),
    (second_of_address, {"limits": {"connections_per_address": 1}}, "address_full", ["4129"]),
    (second_of_address_by_http, {"limits": {"connections_per_address": 1}}, "address_full", []),
    (second_of_node, {"limits": {"connections": 1}}, "node_full", []),
    (second_of_node, {"limits": {"accepts_per_second": 1e-6, "accepts_burst": 1}}, "accept_rate", []),
    (runs_out, {}, "token_expired", ["4101"]),
    (refreshed_for_another, {}, "token_other_user", ["4001"]),
    (no_json, {}, "invalid_json", []),
    (bad_message, {}, "invalid_message", []),
    (unknown_message, {}, "unknown_type", []),
    (in_no_room, {}, "not_in_room", []),
    (forbidden_room, {}, "forbidden", []),
    (too_many_rooms, {"limits": {"rooms_per_connection": 1}}, "too_many_rooms", []),
    (too_fast, {"limits": {"messages_burst": 1, "messages_per_second": 0.001}}, "rate_limited", []),
    (pong_flood, {"limits": {"messages_burst": 1, "refused_burst": 1}}, "too_many_frames", ["4129"]),
    (binary_frame, {}, "protocol", ["1003"]),
    (invalid_utf8, {}, "protocol", ["1007"]),
    (reserved_bit, {}, "protocol", ["1002"]),
    (long_ping, {}, "protocol", ["1002"]),
    (big_message, {"websocket": {"message_bytes": 1000}}, "protocol", ["1009"]),
    (silent, {}, "no_pong", ["4110"]),
    (nonsense, {}, "bad_head", []),
    (long_head, {}, "head_too_large", []),
    (late_head, {}, "head_timeout", []),
    (cut_off_head, {}, "head_cut_off", []),
    (bad_handshake, {}, "handshake", []),
    (no_proxy_header, {"server": TRUSTING}, "proxy_header", []),
    (silent_proxy, {"server": TRUSTING}, "proxy_header", []),
]


@pytest.mark.parametrize(("scenario", "sections", "why", "closes"), SCENARIOS)
async def test_who_is_turned_away_is_counted_and_told(
    open_node, autojump_clock, scenario, sections, why, closes
):
    async with open_node(**sections) as node:
        with trio.fail_after(1000):
            await scenario(node)
            await trio.sleep(30)
        assert node.services.refusals.counts == {why: 1}
        assert sorted(node.services.refusals.closes) == closes
        [line] = node.refusals()
        assert (line["why"], line["address"]) == (why, "10.0.0.1")
        assert line["help"]
        assert node.log_lines() in ([], [line])
        assert SECRET not in node.log.getvalue()
        assert "eyJ" not in node.log.getvalue()


async def test_messages_over_the_rate_are_counted_one_by_one_and_their_end_too(open_node, autojump_clock):
    limits = {"messages_burst": 1, "messages_per_second": 0.001, "refused_burst": 1}
    async with open_node(limits=limits) as node:
        await much_too_fast(node)
        assert node.services.refusals.counts == {"rate_limited": 1, "too_many_messages": 1}


async def test_clients_that_end_their_connections_are_counted_by_their_codes(open_node, autojump_clock):
    async with open_node() as node:
        for code in (1000, 1001, 3456, 4999):
            client = await node.client("ann", "lobby")
            await client.connection.aclose(code, "")
        peer = await node.raw_peer(node.target("lobby", token=node.token("ann")))
        await peer.stream.aclose()
        await trio.sleep(60)
        assert node.services.refusals.closes == {"1000": 1, "1001": 1, "other": 2, "1006": 1}
        assert node.refusals() == []


def test_scenarios_cover_what_a_connection_can_be_refused_for():
    elsewhere = {
        RefusalReason.API_KEY_MISSING,
        RefusalReason.API_KEY_WRONG,
        RefusalReason.API_KEY_SCOPE,
        RefusalReason.HTTP,
        RefusalReason.TOO_MANY_MESSAGES,
        ErrorCode.UNAVAILABLE,
        # Timing of real sockets and slow readers: tests/transport/test_time_limits.py and tests/isolation.
        RefusalReason.HANDSHAKE_TIMEOUT,
        RefusalReason.SLOW_READER,
        # What one user may leave behind: tests/sessions/test_allowance.py; full nodes: tests/rooms/test_directory.py.
        RefusalReason.USER_BYTES,
        RefusalReason.USER_IDS,
        RefusalReason.USER_ROOMS,
        RefusalReason.USER_ROOMS_UP,
        RefusalReason.ROOMS_FULL,
        # Rooms with code of their own: tests/room_actors.
        RefusalReason.ROOM_ACTOR,
        RefusalReason.ROOM_ACTOR_FAILED,
        ErrorCode.FAILED,
        # What answers cost: tests/sessions/test_rate.py.
        RefusalReason.ANSWER_COST,
        # Full rooms: tests/sessions/test_full_rooms.py.
        RefusalReason.ROOM_MEMBERS,
        ErrorCode.ROOM_FULL,
        # Claims: tests/auth/test_tokens.py.
        RefusalReason.TOKEN_CLAIM,
        RefusalReason.TOKEN_NOT_YET_VALID,
        # Keys that are fetched: tests/auth/test_remote_keys.py and tests/server/test_fetched_keys.py.
        RefusalReason.KEYS_AWAY,
        # Tokens taken back: tests/server/test_revocations.py.
        RefusalReason.TOKEN_REVOKED,
        RefusalReason.REVOCATIONS_FULL,
        # The application refuses or is away: tests/sessions/test_hooks.py and tests/hooks/test_gate.py.
        RefusalReason.HOOK,
        RefusalReason.HOOK_AWAY,
        # Handshakes: tests/transport/test_tls_handshake.py; certificates of clients: tests/server/test_tls.py.
        RefusalReason.CLIENT_CERTIFICATE,
        *(reason for reason in RefusalReason if reason.startswith("tls_")),
    }
    covered = {why for _, _, why, _ in SCENARIOS}
    assert covered | elsewhere == {*RefusalReason, *ErrorCode}
