"""A reload replaces secrets, keys and limits of a broker that serves, and ends no connection."""

import msgspec
import pytest

from broker.auth.mint import make_token
from broker.config.settings import ApiKeySettings, AuthSettings, Settings
from broker.errors import ConfigurationError
from tests.support.secrets import API_KEY, SECRET

NEW_SECRET, NEW_KEY = SECRET[::-1], API_KEY[::-1]


def changed(settings, **sections):
    """Return settings with some values of some sections changed."""
    for name, values in sections.items():
        section = msgspec.structs.replace(getattr(settings, name), **values)
        settings = msgspec.structs.replace(settings, **{name: section})
    return settings


async def status_with(served, key):
    answer = await served.http.get(f"{served.url}/api/rooms", headers={"Authorization": f"Bearer {key}"})
    return answer.status_code


async def test_secrets_are_rotated_without_a_cut(serve):
    async with serve() as served, served.connect("/ws/lobby") as ann:
        await ann.receive("joined")
        before = served.broker.settings
        both = changed(
            before,
            auth={"secret": NEW_SECRET, "previous_secret": SECRET},
            http={"api_key": NEW_KEY, "previous_api_key": API_KEY},
        )
        plan = served.broker.reload(both)
        assert plan.reloaded == (
            "auth.secret", "auth.previous_secret", "http.api_key", "http.previous_api_key"
        )  # fmt: skip
        new_token = make_token(AuthSettings(secret=NEW_SECRET), "bob", ttl_seconds=60, now=1.7e9 * 2)
        async with served.connect("/ws/lobby", "cid") as cid:
            await cid.receive("joined")
        assert [await status_with(served, key) for key in (API_KEY, NEW_KEY)] == [200, 200]

        served.broker.reload(changed(both, auth={"previous_secret": None}, http={"previous_api_key": None}))
        async with served.connect("/ws/lobby", "dan") as dan:
            assert (await dan.close_code())[0] == 4001
        async with served.dial(f"/ws/lobby?token={new_token}") as bob:
            await bob.receive("joined")
        assert [await status_with(served, key) for key in (API_KEY, NEW_KEY)] == [401, 200]
        # The connection from before goes on, and its next token is signed with the new secret.
        assert (await ann.ask("refreshed", type="refresh", token=make_token(
            AuthSettings(secret=NEW_SECRET), "ann", ttl_seconds=60, now=1.7e9 * 2
        )))["expires_at"]  # fmt: skip


async def test_limits_hold_for_new_connections(serve):
    async with serve() as served, served.connect("/ws/lobby", "ann") as first:
        await first.receive("joined")
        served.broker.reload(
            changed(
                served.broker.settings, limits={"connections_per_user": 1}, websocket={"allowed_origins": ()}
            )
        )
        async with served.connect("/ws/lobby", "ann") as second:
            assert (await second.close_code())[0] == 4129
        assert (await first.ask("pong", type="ping"))["type"] == "pong"
        served.broker.reload(changed(served.broker.settings, limits={"connections": 1}))
        assert served.broker.settings.limits.connections == 1


async def test_keys_that_cannot_be_used_change_nothing(serve):
    async with serve() as served:
        before = served.broker.settings
        for bad in (
            changed(before, auth={"secret": "short"}),
            changed(before, http={"api_key": "two words"}),
        ):
            with pytest.raises(ConfigurationError):
                served.broker.reload(bad)
            assert served.broker.settings == before
        assert await status_with(served, API_KEY) == 200
        plan = served.broker.reload(Settings(auth=before.auth, http=before.http))
        assert "server.port" in plan.needs_restart or served.broker.settings == before


async def test_named_keys_come_change_and_go_with_a_reload(serve):
    async with serve() as served:
        before = served.broker.settings
        entry = ApiKeySettings(name="shop", key=NEW_KEY, scopes=("publish",))
        assert await status_with(served, NEW_KEY) == 401
        for scopes, status in ((("publish",), 403), (("read",), 200)):
            keys = (msgspec.structs.replace(entry, scopes=scopes),)
            plan = served.broker.reload(changed(before, http={"api_keys": keys}))
            assert (plan.reloaded, plan.needs_restart) == (("http.api_keys",), ())
            assert await status_with(served, NEW_KEY) == status
        served.broker.reload(before)
        assert [await status_with(served, key) for key in (API_KEY, NEW_KEY)] == [200, 401]
