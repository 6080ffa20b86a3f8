"""A token in a cookie counts for pages of listed origins alone, and never in the place of another token."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.auth.cookies import find_cookie_token
from broker.config.check import check_settings
from broker.config.settings import AuthSettings, HttpSettings, Settings, WebSocketSettings
from broker.errors import CloseCode, Disconnect, RefusalReason
from tests.support.secrets import API_KEY, SECRET

APP = "https://app.example"
ORIGINS = (APP, "http://localhost:3000")


def find(*headers, origins=ORIGINS, may_lack_origin=False):
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    try:
        return find_cookie_token(raw, name="session", origins=origins, may_lack_origin=may_lack_origin)
    except Disconnect as refusal:
        return refusal.code, refusal.why


FORBIDDEN = (CloseCode.FORBIDDEN, RefusalReason.ORIGIN)
AMBIGUOUS = (CloseCode.UNAUTHORIZED, RefusalReason.TOKEN_AMBIGUOUS)
FOUND = {
    "session=a.b.c": "a.b.c",
    "x=1; session=a.b.c; y=2": "a.b.c",
    "x=1;session=a.b.c": "a.b.c",
    'session="a.b.c"': "a.b.c",
    "session=a.b.c; session=a.b.c": "a.b.c",
    "session=a; session=b": AMBIGUOUS,
    "session=a=b": "a=b",
    "session=": None,
    "session": None,
    "Session=a": None,
    "xsession=a": None,
    "x=session=a": None,
    "": None,
    ";;=;": None,
    'session="': '"',
}


@pytest.mark.parametrize(("cookie", "found"), FOUND.items())
def test_a_cookie_is_found(cookie, found):
    assert find(("Cookie", cookie), ("Origin", APP)) == found


def test_two_headers_are_as_one():
    assert find(("cookie", "x=1"), ("cookie", "session=a"), ("origin", APP)) == "a"
    assert find(("cookie", "session=b"), ("cookie", "session=a"), ("origin", APP)) == AMBIGUOUS


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "*",
        "",
        "https://app.example.evil.example",
        "https://app.example/",
        "HTTPS://APP.EXAMPLE",
        "file://",
    ],
)
@pytest.mark.parametrize("may_lack_origin", [False, True])
def test_a_page_of_a_stranger_has_no_use_of_the_cookie(origin, may_lack_origin):
    cookie = ("Cookie", "session=a")
    assert find(cookie, ("Origin", origin), may_lack_origin=may_lack_origin) == FORBIDDEN
    # Not even if it says that it is ours, or beside one that is.
    same = ("Sec-Fetch-Site", "same-origin")
    assert find(cookie, ("Origin", origin), same, may_lack_origin=may_lack_origin) == FORBIDDEN
    assert find(cookie, ("Origin", APP), ("Origin", origin), may_lack_origin=may_lack_origin) == FORBIDDEN
    # Without the cookie nothing is refused here.
    assert find(("Cookie", "x=1"), ("Origin", origin)) is None


@pytest.mark.parametrize("origins", [(), ("*",), (APP, "*")])
def test_no_list_lets_nobody_in(origins):
    assert find(("Cookie", "session=a"), ("Origin", APP), origins=origins) == FORBIDDEN


@pytest.mark.parametrize("site", [None, "cross-site", "same-site", "none", "Same-Origin"])
def test_a_request_without_origin_counts_if_the_browser_calls_it_the_servers_own(site):
    cookie = ("Cookie", "session=a")
    fields = [] if site is None else [("Sec-Fetch-Site", site)]
    assert find(cookie, *fields, may_lack_origin=True) == FORBIDDEN
    assert find(cookie, ("Sec-Fetch-Site", "same-origin"), may_lack_origin=True) == "a"
    assert find(cookie, ("Sec-Fetch-Site", "same-origin")) == FORBIDDEN


@given(st.text(st.characters(max_codepoint=255)), st.text(st.characters(max_codepoint=255)))
def test_any_headers_are_read(cookie, origin):
    found = find(("Cookie", cookie), ("Origin", origin))
    assert found is None or origin.strip(" \t") in ORIGINS or found == FORBIDDEN


def problems(cookie, origins):
    settings = Settings(
        auth=AuthSettings(secret=SECRET, cookie=cookie),
        http=HttpSettings(api_key=API_KEY),
        websocket=WebSocketSettings(allowed_origins=origins),
    )
    return [str(found) for found in check_settings(settings, dev=False, engine_schemes=["memory"])]


@pytest.mark.parametrize("origins", [("*",), (), (APP, "*"), (APP, "null"), ("file://", APP)])
def test_a_cookie_without_a_list_of_origins_is_refused(origins):
    (problem,) = problems("session", origins)
    assert problem.startswith("auth.cookie: needs a list of origins in websocket.allowed_origins")
    assert problems(None, origins) == []
    assert problems("session", ORIGINS) == []
