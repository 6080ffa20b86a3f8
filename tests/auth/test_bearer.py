"""Where a client may put its token, and the API key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.auth.bearer import ApiKey, find_token
from broker.errors import CloseCode, ConfigurationError, Disconnect
from tests.support.secrets import API_KEY


def find(
    query: str = "", authorization: bytes | None = None, subprotocols: tuple[str, ...] = ()
) -> str | None:
    headers = [(b"Host", b"example.org")]
    if authorization is not None:
        headers.append((b"Authorization", authorization))
    return find_token(query=query, headers=headers, subprotocols=subprotocols)


def test_without_a_token_there_is_none() -> None:
    assert find() is None


@pytest.mark.parametrize("query", ["token=a.b.c", "offset=3&token=a.b.c", "token=a%2Eb.c", "t%6Fken=a.b.c"])
def test_a_token_in_the_query(query: str) -> None:
    assert find(query) == "a.b.c"


@pytest.mark.parametrize("query", ["token=", "token", "Token=a.b.c", "xtoken=a.b.c", "offset=3"])
def test_a_query_without_a_token(query: str) -> None:
    assert find(query) is None


@pytest.mark.parametrize("header", [b"Bearer a.b.c", b"bearer a.b.c", b" BEARER  a.b.c "])
def test_a_token_in_the_authorization_header(header: bytes) -> None:
    assert find(authorization=header) == "a.b.c"
    assert find_token(query="", headers=[(b"aUTHORIZATION", header)], subprotocols=()) == "a.b.c"


@pytest.mark.parametrize("header", [b"", b"Bearer", b"Bearer ", b"Basic YTpi", b"Bearera.b.c", b"a.b.c"])
def test_an_authorization_header_without_a_token(header: bytes) -> None:
    assert find(authorization=header) is None


def test_a_token_among_the_subprotocols() -> None:
    found = find(subprotocols=("greenroom.v1", "bearer.a.b.c"))
    assert found == "a.b.c"


def test_an_empty_token_hides_no_other() -> None:
    assert find("token=", b"Bearer a.b.c", ("bearer.",)) == "a.b.c"


def test_the_same_token_in_every_place_is_one_token() -> None:
    found = find("token=a.b.c&token=a.b.c", b"Bearer a.b.c", ("greenroom.v1", "bearer.a.b.c"))
    assert found == "a.b.c"


@pytest.mark.parametrize(
    ("query", "header", "offers"),
    [
        ("token=one&token=two", None, ()),
        ("token=one", b"Bearer two", ()),
        ("token=one", None, ("bearer.two",)),
        ("", b"Bearer one", ("bearer.two",)),
        ("", None, ("bearer.one", "bearer.two")),
    ],
)
def test_different_tokens_are_refused(query: str, header: bytes | None, offers: tuple[str, ...]) -> None:
    with pytest.raises(Disconnect) as caught:
        find(query, header, offers)
    assert caught.value.code is CloseCode.UNAUTHORIZED
    assert caught.value.reason == "more than one token"


@given(
    query=st.text(alphabet=st.one_of(st.characters(), st.sampled_from("token=&%+;"))),
    header=st.binary() | st.binary().map(lambda value: b"Bearer " + value),
    offers=st.lists(st.text() | st.text().map(lambda value: "bearer." + value)),
)
def test_any_credentials_give_a_token_or_a_refusal(query: str, header: bytes, offers: list[str]) -> None:
    headers = [(b"authorization", header), (header, header)]
    try:
        found = find_token(query=query, headers=headers, subprotocols=offers)
    except Disconnect:
        return
    assert found != ""


def test_the_api_key_matches_itself_only() -> None:
    key = ApiKey(API_KEY)
    assert key.matches(f"Bearer {API_KEY}")
    assert key.matches(f"bearer  {API_KEY} ")


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        API_KEY,
        f"Basic {API_KEY}",
        f"Bearer {API_KEY}x",
        f"Bearer {API_KEY[:-1]}",
        "Bearer ключ",
        "Bearer \ud800",
    ],
)
def test_anything_else_is_not_the_api_key(header: str | None) -> None:
    assert not ApiKey(API_KEY).matches(header)


@given(st.text(alphabet=st.characters(categories=None)))
def test_presenting_rubbish_never_raises(presented: str) -> None:
    assert ApiKey(API_KEY).matches("Bearer " + presented) == (presented.strip() == API_KEY)


@pytest.mark.parametrize("key", ["", "with space", "schlüssel", "tab\t", "nul\0"])
def test_a_key_that_no_header_can_carry_is_refused(key: str) -> None:
    with pytest.raises(ConfigurationError, match=r"http\.api_key"):
        ApiKey(key)


def test_the_api_key_does_not_show_in_a_repr() -> None:
    assert API_KEY not in repr(ApiKey(API_KEY))


def test_two_keys_are_accepted_while_one_is_replaced() -> None:
    key = ApiKey(API_KEY, previous=API_KEY[::-1])
    for good in (API_KEY, API_KEY[::-1]):
        assert key.matches(f"Bearer {good}")
    for bad in ("", API_KEY[:-1], API_KEY + API_KEY[::-1]):
        assert not key.matches(f"Bearer {bad}")
    assert API_KEY[::-1] not in repr(key)
