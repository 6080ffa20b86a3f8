"""Signatures of requests: Standard Webhooks, as an application verifies them in one line."""

import base64
import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.errors import ConfigurationError
from broker.hooks import SignatureError, verify
from broker.signatures import read_secret, sign

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + base64.b64encode(bytes(range(32))).decode()
BODY = b'{"test": 2432232314}'
NOW = 1_614_265_330
# The example of the scheme's own libraries.
HEADERS = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": str(NOW),
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}

secrets = st.binary(min_size=24, max_size=64).map(lambda key: "whsec_" + base64.b64encode(key).decode())
ids = st.text(st.characters(codec="ascii", categories=["L", "N", "P"], exclude_characters="."), min_size=1)
bodies = st.dictionaries(st.text(), st.integers()).map(lambda value: json.dumps(value).encode())


def signed(*, secret: str = SECRET, body: bytes = BODY, at: int = NOW) -> dict[str, str]:
    return sign("evt-1", at, body, [read_secret(secret)])


def test_it_is_the_signature_of_other_libraries() -> None:
    assert sign(HEADERS["webhook-id"], NOW, BODY, [read_secret(SECRET)]) == HEADERS
    assert verify(HEADERS, BODY, SECRET, now=NOW) == {"test": 2432232314}


@settings(max_examples=30)
@given(ids, bodies, st.lists(secrets, min_size=1, max_size=3), st.lists(secrets, max_size=2), st.data())
def test_it_is_accepted_if_any_key_of_one_side_is_one_of_the_other(
    message_id: str, body: bytes, mine: list[str], more: list[str], data: st.DataObject
) -> None:
    headers = sign(message_id, NOW, body, [read_secret(each) for each in mine])
    theirs = data.draw(st.permutations([*more, data.draw(st.sampled_from(mine))]))
    assert verify(headers, body, theirs, now=NOW) == json.loads(body)
    strangers = [each for each in more if read_secret(each) not in map(read_secret, mine)]
    if strangers:
        with pytest.raises(SignatureError):
            verify(headers, body, strangers, now=NOW)


@given(st.sampled_from(["webhook-id", "webhook-timestamp", "webhook-signature", "body"]), st.data())
def test_a_request_changed_in_any_place_is_refused(place: str, data: st.DataObject) -> None:
    whole = {**signed(), "body": BODY.decode()}
    text = whole[place]
    index = data.draw(st.integers(0, len(text) - 1))
    if text[index] == "," or index >= len(text) - 1:
        index = 3
    other = data.draw(st.characters(codec="ascii", exclude_characters=text[index] + " \t\r\n"))
    changed = {**whole, place: text[:index] + other + text[index + 1 :]}
    body = changed.pop("body").encode()
    with pytest.raises(SignatureError):
        verify(changed, body, SECRET, now=NOW)


def test_the_parts_of_the_signed_text_cannot_be_moved_into_one_another() -> None:
    body = b"5.[1]"
    signature = sign("a", 7, body, [read_secret(SECRET)])["webhook-signature"]
    moved = {"webhook-id": "a.7", "webhook-timestamp": "5", "webhook-signature": signature}
    with pytest.raises(SignatureError, match="no id"):
        verify(moved, b"[1]", SECRET, now=5)
    with pytest.raises(ValueError, match="full stop"):
        sign("a.7", 5, b"[1]", [read_secret(SECRET)])


@pytest.mark.parametrize(("apart", "is_good"), [(0, True), (300, True), (301, False)])
@pytest.mark.parametrize("sign_of", [1, -1])
def test_its_time_is_within_five_minutes(apart: int, is_good: bool, sign_of: int) -> None:
    now = NOW + sign_of * apart
    if is_good:
        verify(signed(), BODY, SECRET, now=now)
    else:
        with pytest.raises(SignatureError, match="more than 300 s"):
            verify(signed(), BODY, SECRET, now=now)


@pytest.mark.parametrize("name", list(HEADERS))
def test_each_header_is_needed_once(name: str) -> None:
    with pytest.raises(SignatureError, match=f"{name} is missing"):
        verify({key: value for key, value in HEADERS.items() if key != name}, BODY, SECRET, now=NOW)
    with pytest.raises(SignatureError, match=f"{name} is there twice"):
        verify({**HEADERS, name.title(): HEADERS[name]}, BODY, SECRET, now=NOW)


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("webhook-timestamp", ""),
        ("webhook-timestamp", "-1"),
        ("webhook-timestamp", "1614265330.0"),
        ("webhook-timestamp", "٣"),
        ("webhook-timestamp", "9" * 5000),
        ("webhook-id", ""),
        ("webhook-id", "ä"),
        ("webhook-signature", ""),
        ("webhook-signature", "v1,"),
        ("webhook-signature", "\udc80 ä v1,ä"),
        ("webhook-signature", HEADERS["webhook-signature"].replace("v1,", "v1a,")),
        ("webhook-signature", HEADERS["webhook-signature"].replace("v1,", "")),
    ],
)
def test_rubbish_is_refused(header: str, value: str) -> None:
    with pytest.raises(SignatureError):
        verify({**HEADERS, header: value}, BODY, SECRET, now=NOW)


def test_signatures_of_other_schemes_stand_beside_ours() -> None:
    several = f"v1a,abc v2,def {HEADERS['webhook-signature']} v1,xyz"
    verify({**HEADERS, "webhook-signature": several}, BODY, SECRET, now=NOW)


def test_a_signed_body_that_is_not_json_is_refused() -> None:
    for body in (b"", b"{", b"\xff", b"[" * 100_000):
        with pytest.raises(SignatureError, match="not JSON"):
            verify(signed(body=body), body, SECRET, now=NOW)


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "secret",
        "whsec_",
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        SECRET[:-4],
        SECRET + "ä",
        "whsec_" + base64.b64encode(bytes(65)).decode(),
        SECRET.replace("I", "-"),
        SECRET + "\n",
    ],
)
def test_a_secret_of_another_form_is_a_mistake_of_the_configuration(secret: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        verify(HEADERS, BODY, secret, now=NOW)
    assert "whsec_ and the base64" in str(caught.value)
    assert len(secret) < 10 or secret not in str(caught.value)


def test_no_secret_and_a_body_that_is_no_bytes_are_mistakes_of_the_program() -> None:
    with pytest.raises(ConfigurationError, match="no secret"):
        verify(HEADERS, BODY, [], now=NOW)
    with pytest.raises(TypeError, match="bytes"):
        verify(HEADERS, BODY.decode(), SECRET, now=NOW)  # type: ignore[arg-type]


def request_in_django() -> list[Any]:
    settings = pytest.importorskip("django.conf").settings
    if not settings.configured:
        settings.configure()
    names = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in HEADERS.items()}
    request = (
        pytest.importorskip("django.test")
        .RequestFactory()
        .post("/hook", BODY, content_type="application/json", **names)
    )
    return [request.headers, request.META]


def request_in_flask() -> list[Any]:
    flask = pytest.importorskip("flask")
    with flask.Flask(__name__).test_request_context("/hook", headers=HEADERS):
        return [flask.request.headers, flask.request.environ]


def request_in_fastapi() -> list[Any]:
    fastapi = pytest.importorskip("fastapi")
    raw = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
    return [fastapi.Request({"type": "http", "headers": raw}).headers, dict(raw)]


@pytest.mark.parametrize("request_in", [request_in_django, request_in_flask, request_in_fastapi])
def test_headers_are_those_of_any_framework(request_in: Any) -> None:
    for headers in request_in():
        assert verify(headers, BODY, SECRET, now=NOW) == {"test": 2432232314}


def test_an_application_imports_nothing_of_the_server() -> None:
    absent = "trio quart hypercorn hiredis httpx2 anyio msgspec asyncio ssl"
    program = (
        f"import sys; from broker.hooks import verify; print([m for m in '{absent}'.split() if m in sys.modules], "
        "sorted(m for m in sys.modules if m.startswith('broker')))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (
        ran.stdout
        == "[] ['broker', 'broker.errors', 'broker.hooks', 'broker.lazy_names', 'broker.signatures']\n"
    )
    assert ran.stderr == ""
