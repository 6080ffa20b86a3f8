"""Origins that a browser can match, however they are written, and a reason for each that none can."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker import open_broker
from broker.config.check import check_settings, with_normal_origins
from broker.config.origins import normal_origin
from broker.config.settings import AuthSettings, HttpSettings, Settings, WebSocketSettings
from broker.errors import ConfigurationError
from tests.support.secrets import API_KEY, SECRET

# The right column is `new URL(left).origin` in Chromium, but for the schemes that it gives "null" for.
SAME = [
    ("*", "*"),
    ("null", "null"),
    ("https://app.example", "https://app.example"),
    ("https://app.example/", "https://app.example"),
    (" https://app.example ", "https://app.example"),
    ("HTTPS://App.EXAMPLE", "https://app.example"),
    ("https://app.example:443", "https://app.example"),
    ("https://app.example:443/", "https://app.example"),
    ("https://app.example:", "https://app.example"),
    ("https://app.example:80", "https://app.example:80"),
    ("http://app.example:80", "http://app.example"),
    ("http://localhost:3000", "http://localhost:3000"),
    ("http://localhost:03000", "http://localhost:3000"),
    ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
    ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
    ("http://[::1]:8000/", "http://[::1]:8000"),
    ("http://[0:0:0:0:0:0:0:1]", "http://[::1]"),
    ("http://[::FFFF:127.0.0.1]", "http://[::ffff:7f00:1]"),
    ("https://a_b.example", "https://a_b.example"),
    (
        "chrome-extension://mhjfbmdgcfjbbpaeojofohoefgiehjai",
        "chrome-extension://mhjfbmdgcfjbbpaeojofohoefgiehjai",
    ),
    ("capacitor://localhost", "capacitor://localhost"),
    ("file://", "file://"),
]

NEVER = [
    "",
    "app.example",
    "app.example:443",
    "//app.example",
    "https:/app.example",
    "https://",
    "https:///",
    "https://app.example/chat",
    "https://app.example//",
    "https://app.example?x",
    "https://app.example/#",
    "https://ann@app.example",
    "https://*.app.example",
    "https://app.example, https://b.example",
    "https://app.example https://b.example",
    "https://app .example",
    "https://app..example",
    "https://bücher.example",
    "https://app.example:0",
    "https://app.example:65536",
    "https://app.example:abc",
    "https://app.example\\",
    "https://app%2eexample",
    "http://1.2.3",
    "http://1.2.3.4.5",
    "http://0x7f.1",
    "http://127.0.0.256",
    "http://[::1",
    "http://[::1%25eth0]",
    "http://[12345::]",
    "wss://app.example",
    '"https://app.example"',
]


@pytest.mark.parametrize(("written", "sent"), SAME)
def test_what_is_meant_is_what_a_browser_sends(written, sent):
    assert normal_origin(written) == sent
    assert normal_origin(sent) == sent


@pytest.mark.parametrize("written", NEVER)
def test_what_no_browser_sends_is_refused_with_a_reason(written):
    with pytest.raises(ValueError, match=r"[a-z]{3}"):
        normal_origin(written)


@given(st.text(max_size=40) | st.from_regex(r"https?://[a-z0-9.:\[\]/-]{0,30}", fullmatch=True))
def test_anything_is_either_refused_or_normal_once_and_for_all(text):
    try:
        normal = normal_origin(text)
    except ValueError:
        return
    assert normal_origin(normal) == normal
    assert normal.isascii()
    assert normal == normal.lower().strip()


def settings(websocket: tuple[str, ...], cors: tuple[str, ...]) -> Settings:
    return Settings(
        auth=AuthSettings(secret=SECRET),
        http=HttpSettings(api_key=API_KEY, cors_origins=cors),
        websocket=WebSocketSettings(allowed_origins=websocket),
    )


def test_both_lists_are_checked_and_every_bad_one_is_named():
    given_settings = settings(("*", "app.example"), ("https://a.example/x", "https://b.example/"))
    one, other = check_settings(
        given_settings,
        dev=True,
        engine_schemes={"memory"},
        origins={"http.cors_origins": "greenroom.toml:4", "websocket.allowed_origins": "default"},
    )
    assert str(one).startswith("websocket.allowed_origins: 'app.example' must be scheme://host")
    assert str(other).startswith("greenroom.toml:4: http.cors_origins: 'https://a.example/x' must be")


def test_both_lists_are_normalised():
    normal = with_normal_origins(settings(("https://A.example/", "null"), ("http://b.example:80",)))
    assert normal.websocket.allowed_origins == ("https://a.example", "null")
    assert normal.http.cors_origins == ("http://b.example",)


async def test_a_server_compares_with_what_browsers_send():
    given_settings = settings(("https://A.example/",), ("http://b.example:80/",))
    async with open_broker(given_settings) as broker:
        assert broker.settings == with_normal_origins(given_settings) != given_settings


async def test_a_server_does_not_start_with_origins_that_no_browser_sends():
    with pytest.raises(ConfigurationError, match=r"allowed_origins: 'app\.example' must be"):
        async with open_broker(settings(("app.example",), ())):
            pytest.fail("started")
