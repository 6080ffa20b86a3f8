"""Tokens are taken back: live connections end, and the tokens do not come back, also after a restart."""

import re
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import jwt
import pytest

from broker.auth.revocations import Revocation, RevocationKind, RevocationTable
from broker.engine.memory import MemoryEngine
from broker.errors import ErrorCode, Refused
from broker.sessions.connections import Connections
from broker.sessions.revocations import Revocations
from tests.support.secrets import SECRET

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.served import Serve

REVOKED = (4001, "token was revoked")


def token(user: str = "ann", **claims: object) -> str:
    return jwt.encode({"sub": user, "exp": time.time() + 600, **claims}, SECRET)


@pytest.mark.parametrize(
    ("body", "taken", "kept"),
    [
        ({"jti": "1"}, [{"jti": "1"}, {"jti": 1}], [{"jti": "2"}, {}]),
        ({"user_id": "ann"}, [{"jti": "1"}, {"iat": 2_000_000_000}, {}], []),
        (
            {"user_id": "ann", "issued_before": 1000},
            [{"iat": 999}, {}, {"iat": "?"}],
            [{"iat": 1000}, {"iat": 1001.5}],
        ),
    ],
)
async def test_connections_end_and_do_not_come_back(serve: "Serve", body, taken, kept) -> None:
    gone, stay = [token(**claims) for claims in taken], [token(**claims) for claims in kept]
    stay.append(token("bob", iat=5))
    async with serve() as served, AsyncExitStack() as stack:
        clients = []
        for one in (*gone, *stay):
            client = await stack.enter_async_context(served.dial(f"/ws/den?token={one}"))
            await client.receive("joined")
            clients.append(client)
        answer = (await served.http.post("/api/revocations", json=body)).json()
        assert answer["disconnected"] == len(gone)
        assert answer["expires_at"] == pytest.approx(time.time() + 2_592_000, abs=600)
        for client in clients[: len(gone)]:
            assert await client.close_code() == REVOKED
        for client in clients[len(gone) :]:
            await client.ask("pong", type="ping")
        for one in gone:
            async with served.dial(f"/ws/den?token={one}") as client:
                assert await client.close_code() == REVOKED
            headers = {"Authorization": f"Bearer {one}"}
            response = await served.http.get("/api/rooms/den/events", headers=headers)
            assert (response.status_code, response.json()["detail"]) == (401, "token was revoked")
        # On live connections, at their return, and for event streams.
        metrics = (await served.http.get("/metrics")).text
        [counted] = re.findall(
            r'^greenroom_refusals_total{.*"token_revoked".*} (\S+)$', metrics, re.MULTILINE
        )
        assert float(counted) == 3 * len(gone)
        # Again it changes nothing, and nobody is left to be closed.
        assert (await served.http.post("/api/revocations", json=body)).json()["disconnected"] == 0


async def test_an_event_stream_ends(serve: "Serve") -> None:
    async with (
        serve() as served,
        served.http.stream(
            "GET", "/api/rooms/den/events", headers={"Authorization": f"Bearer {token(jti='1')}"}
        ) as stream,
    ):
        lines = stream.aiter_lines()
        async for line in lines:
            if '"joined"' in line:
                break
        assert (await served.http.post("/api/revocations", json={"jti": "1"})).json()["disconnected"] == 1
        rest = [line async for line in lines]
        assert "event:close" in "".join(rest).replace(" ", "")
        assert any("4001" in line and "token was revoked" in line for line in rest)


async def test_a_connection_has_its_newest_token(serve: "Serve") -> None:
    async with serve() as served, served.dial(f"/ws/den?token={token(jti='1')}") as client:
        await client.receive("joined")
        await client.ask("refreshed", type="refresh", token=token(jti="2"))
        assert (await served.http.post("/api/revocations", json={"jti": "1"})).json()["disconnected"] == 0
        await client.ask("pong", type="ping")
        # Back to the token that was taken back.
        async with served.dial(f"/ws/den?token={token(jti='3')}") as other:
            await other.receive("joined")
            await other.send(type="refresh", token=token(jti="1"))
            assert await other.close_code() == REVOKED
        assert (await served.http.post("/api/revocations", json={"jti": "2"})).json()["disconnected"] == 1
        assert await client.close_code() == REVOKED


async def test_it_outlives_a_restart_in_a_file(serve: "Serve", tmp_path: "Path") -> None:
    where = {
        "server": {"engine": f"sqlite:///{tmp_path}/rooms.db"},
        "sqlite": {"witness_directory": str(tmp_path)},
    }
    async with serve(**where) as served:
        body = {"user_id": "ann", "issued_before": 1000}
        assert (await served.http.post("/api/revocations", json=body)).status_code == 200
    async with serve(**where) as served:
        for _ in range(2):
            async with served.dial(f"/ws?token={token(iat=999)}") as client:
                assert await client.close_code() == REVOKED
            # A reload makes a new verifier.
            served.broker.reload(served.broker.settings)
        async with served.dial(f"/ws?token={token(iat=1000)}") as client:
            await client.ask("pong", type="ping")


async def test_an_engine_that_keeps_none_leaves_it_to_the_node(serve: "Serve") -> None:
    class Plain(MemoryEngine):
        revocations = None

    engine = Plain(wall_clock=time.time, idempotency_seconds=300)
    async with (
        serve(parts={"engine": engine}) as served,
        served.dial(f"/ws?token={token(jti='1')}") as client,
    ):
        await client.ask("pong", type="ping")
        assert (await served.http.post("/api/revocations", json={"jti": "1"})).json()["disconnected"] == 1
        assert await client.close_code() == REVOKED


NOT_MEANT: list[tuple[dict, str]] = [
    ({}, "jti or user_id"),
    ({"issued_before": 1}, "jti or user_id"),
    ({"jti": "a", "user_id": "ann"}, "jti: alone"),
    ({"jti": "a", "issued_before": 1}, "jti: alone"),
    ({"jti": "a", "expires_at": 5}, "expires_at: a time to come"),
    ({"jti": ""}, "jti"),
    ({"jti": "a" * 513}, "jti"),
    ({"jti": 5}, "jti"),
    ({"user_id": ""}, "user_id"),
    ({"user_id": "ann", "issued_befor": 5}, "issued_befor"),
    ({"user_id": "ann", "issued_before": 1_700_000_000_000}, "issued_before"),
    ({"user_id": "ann", "issued_before": "1"}, "issued_before"),
    ({"user_id": "ann", "expires_at": 1e300}, "expires_at"),
    ({"user_id": "ann", "expires_at": True}, "expires_at"),
]


async def test_what_cannot_be_meant_is_refused(serve: "Serve") -> None:
    async with serve() as served:
        for body, told in NOT_MEANT:
            response = await served.http.post("/api/revocations", json=body)
            assert response.status_code in {400, 422}, body
            assert told in response.json()["detail"]


async def test_more_than_may_hold_are_refused_and_none_is_forgotten() -> None:
    table = RevocationTable(lambda: 0.0)
    revocations = Revocations(table, None, Connections(1), lambda: 0.0, most=2)
    for name in ("a", "b", "a"):
        await revocations.revoke(Revocation(RevocationKind.TOKEN, name, 60.0))
    with pytest.raises(Refused, match="2 revocations hold") as caught:
        await revocations.revoke(Revocation(RevocationKind.TOKEN, "c", 60.0))
    assert caught.value.code is ErrorCode.UNAVAILABLE
    await revocations.revoke(Revocation(RevocationKind.TOKEN, "b", 90.0))
    assert {(one.name, one.expires_at) for one in table} == {("a", 60.0), ("b", 90.0)}
