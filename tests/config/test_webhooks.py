"""`[[webhooks]]` in the file: read, checked, and shown without its secrets."""

from base64 import b64encode
from pathlib import Path

import pytest

from broker.config.check import check_settings
from broker.config.load import load_settings
from broker.config.reload import plan_reload
from broker.config.render import render_settings
from broker.config.settings import Settings, WebhookSettings
from broker.errors import ConfigurationError
from tests.support.secrets import API_KEY, SECRET

KEY = bytes(range(32))
WEBHOOK_SECRET = f"whsec_{b64encode(KEY).decode()}"
ENVIRON = {"GREENROOM_SECRET": SECRET, "GREENROOM_API_KEY": API_KEY}


def secret_of(key: bytes) -> str:
    return f"whsec_{b64encode(key).decode()}"


def webhook(**changed: object) -> WebhookSettings:
    fields: dict[str, object] = {"name": "a", "url": "https://a.example/in", "secret": WEBHOOK_SECRET}
    return WebhookSettings(**(fields | changed))  # type: ignore[arg-type]


def problems(*webhooks: WebhookSettings) -> list[str]:
    found = check_settings(Settings(webhooks=webhooks), dev=True, engine_schemes=["memory"])
    return [str(problem) for problem in found]


def test_a_webhook_is_read_and_shown_without_its_secrets(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(WEBHOOK_SECRET)
    secret.chmod(0o400)
    file = tmp_path / "greenroom.toml"
    file.write_text(
        f'[[webhooks]]\nname = "shop"\nurl = "http://10.0.0.7:8000/in?a=b"\nsecret_file = "{secret}"\n'
        f'rooms = ["orders.*", "my room"]\nkinds = ["message"]\n'
        f'[[webhooks]]\nname = "audit"\nurl = "https://a.example"\nsecret = "{WEBHOOK_SECRET}"\n'
        f'previous_secret = "{secret_of(KEY[::-1])}"\n'
    )
    loaded = load_settings(file=file, environ=ENVIRON, flags={})
    shop, audit = loaded.settings.webhooks
    assert (shop.secret, shop.rooms, shop.kinds) == (WEBHOOK_SECRET, ("orders.*", "my room"), ("message",))
    assert "message" not in audit.kinds
    assert len(audit.kinds) == 6
    assert audit.rooms == ("*",)
    assert check_settings(loaded.settings, dev=False, engine_schemes=["memory"]) == []
    shown = render_settings(loaded)
    assert not [
        word for word in (WEBHOOK_SECRET, secret_of(KEY[::-1])) if word in shown + repr(loaded.settings)
    ]
    # The secret that stands in the file itself is left out; all else is loaded again.
    file.write_text(shown)
    again, _ = load_settings(file=file, environ=ENVIRON, flags={}).settings.webhooks
    assert again == shop


FLAWS = {
    "one name twice": ([webhook(), webhook()], "webhooks[1].name: a is the name of another webhook"),
    "no secret": ([webhook(secret=None)], "webhooks[0].secret: missing"),
    "a secret of another form": (
        [webhook(secret="hunter2" * 6)],
        "webhooks[0].secret: must be whsec_ and the base64",
    ),
    "no base64": ([webhook(secret="whsec_hunter2*")], "webhooks[0].secret: must be whsec_ and the base64"),
    "no padding": (
        [webhook(secret=WEBHOOK_SECRET.rstrip("="))],
        "webhooks[0].secret: must be whsec_ and the base64",
    ),
    "a short secret": (
        [webhook(secret=secret_of(KEY[:23]))],
        "webhooks[0].secret: must be whsec_ and the base64 of 24 to 64 random bytes; it has 23",
    ),
    "a long secret": (
        [webhook(secret=secret_of(bytes(range(65))))],
        "webhooks[0].secret: must be whsec_ and the base64 of 24 to 64 random bytes; it has 65",
    ),
    "a weak secret": ([webhook(secret=secret_of(b"abc" * 9))], "webhooks[0].secret: too weak"),
    "a blank": ([webhook(secret=f"{WEBHOOK_SECRET} ")], "webhooks[0].secret: has blanks around it"),
    "a previous secret": (
        [webhook(previous_secret="hunter2")],
        "webhooks[0].previous_secret: must be whsec_",
    ),
    "a placeholder": ([webhook(url="${URL}")], "webhooks[0].url: "),
    "another scheme": ([webhook(url="ftp://a.example")], "webhooks[0].url: must be an address such as"),
    "no host": ([webhook(url="https:///in")], "webhooks[0].url: must be an address such as"),
    "a password": ([webhook(url="https://a:hunter2@a.example")], "webhooks[0].url: holds a user"),
    "a fragment": ([webhook(url="https://a.example/#in")], "webhooks[0].url: has a fragment"),
    "a blank in the address": ([webhook(url="https://a.example/a b")], "webhooks[0].url: must be printable"),
    "no room's name": ([webhook(rooms=("a", "b/*"))], "webhooks[0].rooms: 'b/*' holds '/'"),
}


@pytest.mark.parametrize(("webhooks", "message"), FLAWS.values(), ids=FLAWS)
def test_a_webhook_that_cannot_be_meant_is_refused(webhooks: list[WebhookSettings], message: str) -> None:
    found = problems(*webhooks)
    assert [line for line in found if line.startswith(message)], found
    assert {line.partition(": ")[0] for line in found} == {message.partition(": ")[0]}
    assert "hunter2" not in "".join(found)


@pytest.mark.parametrize("size", [24, 64])
def test_each_length_of_the_standard_is_taken(size: int) -> None:
    assert problems(webhook(secret=secret_of(bytes(range(size))))) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name = ".."', "webhooks[0].name: must be"),
        (
            'kinds = ["user_left", "left"]',
            "webhooks[0].kinds: must be a list of 1 or more items, each one of",
        ),
        ("kinds = []", "webhooks[0].kinds: must be"),
        ("rooms = []", "webhooks[0].rooms: must be"),
        ("batch = 0", "webhooks[0].batch: must be"),
        ("batc = 1", "the nearest known is webhooks[0].batch"),
    ],
)
def test_mistakes_in_the_file_are_found(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "greenroom.toml"
    name = "" if text.startswith("name") else 'name = "a"\n'
    file.write_text(f'[[webhooks]]\n{name}url = "https://a.example"\n{text}\n')
    with pytest.raises(ConfigurationError) as caught:
        load_settings(file=file, environ={}, flags={})
    assert message in str(caught.value)


def test_a_change_needs_a_restart() -> None:
    plan = plan_reload(Settings(), Settings(webhooks=(webhook(),)))
    assert (plan.settings, plan.reloaded, plan.needs_restart) == (Settings(), (), ("webhooks",))
