"""A token in a cookie, over WebSocket and as an event stream, with the Origin that browsers send."""

import pytest

from broker.errors import ConfigurationError
from tests.server.test_reload import changed

APP, EVIL = "https://app.example", "https://evil.example"
SETTINGS = {
    "auth": {"cookie": "session"},
    "websocket": {"allowed_origins": [f"{APP}/"]},
    "http": {"cors_origins": [APP, "https://other.example"]},
}


async def test_a_websocket_of_a_listed_page_is_let_in_by_its_cookie(serve):
    async with serve(**SETTINGS) as served:

        async def end(path="/ws/lobby", **headers):
            async with served.dial(path, additional_headers=headers) as client:
                return await client.close_code()

        cookie = f"theme=dark; session={served.token('ann')}"
        async with served.dial("/ws/lobby", additional_headers={"Cookie": cookie, "Origin": APP}) as ann:
            joined = await ann.receive("joined")
            assert joined["type"] == "joined"
            answered = await ann.ask("refreshed", type="refresh", token=served.token("ann"))
            assert answered["expires_at"]
        assert (await end(Cookie=cookie, Origin=EVIL))[0] == 4003
        assert (await end(Cookie=cookie))[0] == 4003
        assert (await end(Cookie="session=x", Origin=APP))[0] == 4001
        assert (await end(Cookie="other=x", Origin=APP))[0] == 4001
        # A token in the query wins, with or without an origin, as before.
        for headers in ({"Cookie": "session=x", "Origin": APP}, {"Cookie": "session=x"}, {"Cookie": cookie}):
            path = f"/ws/lobby?token={served.token('bob')}"
            async with served.dial(path, additional_headers=headers) as bob:
                await bob.receive("joined")
                users = await bob.ask("presence", type="presence")
                assert [user["user_id"] for user in users["users"]] == ["bob"]

        # The cookie comes and goes with a reload, and never without its list.
        before = served.broker.settings
        served.broker.reload(changed(before, auth={"cookie": None}))
        assert (await end(Cookie=cookie, Origin=APP))[0] == 4001


async def test_an_event_stream_of_a_listed_page_is_let_in_by_its_cookie(serve):
    async with serve(**SETTINGS) as served:
        cookie = {"Cookie": f"session={served.token('ann')}"}
        own = {**cookie, "Sec-Fetch-Site": "same-origin"}

        async def head(headers, path="/api/rooms/lobby/events"):
            del served.http.headers["Authorization"]
            response = await served.http.head(path, headers=headers)
            served.http.headers["Authorization"] = authorization
            return response

        authorization = served.http.headers["Authorization"]
        assert (await head(own)).status_code == 200
        listed = await head({**cookie, "Origin": APP})
        assert listed.status_code == 200
        assert listed.headers["Access-Control-Allow-Origin"] == APP
        assert listed.headers["Access-Control-Allow-Credentials"] == "true"
        for headers in ({**cookie, "Origin": EVIL}, cookie, {**cookie, "Sec-Fetch-Site": "cross-site"}):
            assert (await head(headers)).status_code == 403
        # A page that may call the API and use no cookie.
        other = await head({**cookie, "Origin": "https://other.example"})
        assert (other.status_code, "Access-Control-Allow-Credentials" in other.headers) == (403, False)
        # No other path knows a cookie.
        rooms = await head({**own, "Origin": APP}, "/api/rooms")
        assert (rooms.status_code, "Access-Control-Allow-Credentials" in rooms.headers) == (401, False)
        # A token given otherwise wins.
        bad = await head({**own, "Authorization": "Bearer x"})
        assert bad.status_code == 401


async def test_without_the_setting_a_cookie_is_nothing(serve):
    async with serve(websocket={"allowed_origins": [APP]}) as served:
        headers = {"Cookie": f"session={served.token('ann')}", "Origin": APP}
        async with served.dial("/ws/lobby", additional_headers=headers) as client:
            assert (await client.close_code())[0] == 4001


async def test_a_cookie_without_a_list_does_not_start(serve):
    with pytest.raises(ConfigurationError, match=r"auth\.cookie: needs a list of origins"):
        async with serve(auth={"cookie": "session"}):
            pass
