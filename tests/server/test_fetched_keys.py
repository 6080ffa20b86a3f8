"""A broker that fetches its keys from a real provider: connections, refreshes and event streams, and the provider away."""

import pytest
import trio

from broker.errors import ConfigurationError
from tests.server.test_reload import changed
from tests.support.provider import SigningKey, answer, open_provider

ONE, TWO = SigningKey.make("one"), SigningKey.make("two")


@pytest.fixture
async def provider():
    async with open_provider() as provider:
        yield provider


def token(provider, key=ONE, user_id="ann", **claims):
    return key.token({"sub": user_id, "iss": provider.issuer, **claims})


def auth(provider, **more):
    return {"algorithms": ["ES256"], "issuer": provider.issuer, "discovery": True, **more}


async def test_clients_are_known_by_the_keys_of_the_provider(serve, provider):
    provider.publish(ONE, Cache_Control="max-age=600")
    async with serve(auth=auth(provider)) as served:
        # The first connection waits for the first fetch, if that has not ended.
        async with served.dial(f"/ws/lobby?token={token(provider)}") as ann:
            await ann.receive("joined")
            assert (await served.http.get("/ready")).status_code == 200

            answered = await ann.ask("refreshed", type="refresh", token=token(provider))
            assert answered["expires_at"]
        stream = f"/api/rooms/lobby/events?token={token(provider)}"
        head = await served.http.head(stream, headers={"Authorization": ""})
        assert head.status_code == 200


async def test_a_provider_that_is_away_is_told_and_comes_back(serve, provider):
    provider.answers["/realm/.well-known/openid-configuration"] = answer({}, 503)
    async with serve(auth=auth(provider)) as served:
        while not provider.asked:
            await trio.sleep(0.01)
        response = await served.http.get("/ready")
        assert response.status_code == 503
        assert response.json()["reasons"] == ["auth: the keys of tokens have not been fetched yet"]
        # The HTTP API needs none of these keys.
        note = {"type": "note"}
        assert (await served.http.post("/api/rooms/lobby/messages", json=note)).status_code == 200
        provider.publish(ONE)
        async with served.dial(f"/ws/lobby?token={token(provider)}") as ann:
            await ann.receive("joined")
        assert (await served.http.get("/ready")).status_code == 200


async def test_a_reload_changes_the_provider_and_ends_no_connection(serve, provider):
    provider.publish(ONE)
    async with serve(auth=auth(provider)) as served, served.dial(f"/ws/lobby?token={token(provider)}") as ann:
        await ann.receive("joined")
        provider.answers["/new"] = answer({"keys": [TWO.jwk()]})
        before = served.broker.settings
        after = changed(before, auth={"discovery": False, "jwks_url": f"{provider.url}/new"})
        assert served.broker.reload(after).reloaded == ("auth.jwks_url", "auth.discovery")
        async with served.dial(f"/ws/lobby?token={token(provider, TWO, 'bob')}") as bob:
            await bob.receive("joined")
        # A key of the provider before is known no more.
        async with served.dial(f"/ws/lobby?token={token(provider)}") as again:
            assert (await again.close_code())[0] == 4001
        await ann.ask("presence", type="presence")
        # A configuration that cannot be used changes nothing.
        with pytest.raises(ConfigurationError):
            served.broker.reload(changed(after, auth={"jwks_url": None, "jwks_file": "/nowhere"}))
        async with served.dial(f"/ws/lobby?token={token(provider, TWO, 'cid')}") as cid:
            await cid.receive("joined")


async def test_a_new_token_whose_key_cannot_be_fetched_is_to_be_sent_again_and_ends_no_connection(
    serve, provider
):
    provider.publish(ONE)
    async with serve(auth=auth(provider)) as served, served.dial(f"/ws/lobby?token={token(provider)}") as ann:
        await ann.receive("joined")
        provider.answers["/new"] = answer({}, 503)
        more = {"discovery": False, "jwks_url": f"{provider.url}/new"}
        served.broker.reload(changed(served.broker.settings, auth=more))
        refused = await ann.ask("error", type="refresh", token=token(provider, TWO), id=1)
        assert (refused["code"], refused["retry_after_ms"], refused["id"]) == ("unavailable", 1000, 1)
        await ann.ask("presence", type="presence")
