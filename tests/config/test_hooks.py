"""`[[hooks]]` in the file: read, checked, and shown without its secrets."""

from base64 import b64encode
from pathlib import Path

import pytest

from broker.config.check import check_settings
from broker.config.load import load_settings
from broker.config.reload import plan_reload
from broker.config.render import render_settings
from broker.config.settings import HookSettings, Settings
from broker.errors import ConfigurationError
from tests.support.secrets import API_KEY, SECRET

HOOK_SECRET = f"whsec_{b64encode(bytes(range(32))).decode()}"
OLD_SECRET = f"whsec_{b64encode(bytes(range(32, 64))).decode()}"
ENVIRON = {"GREENROOM_SECRET": SECRET, "GREENROOM_API_KEY": API_KEY}


def hook(**changed: object) -> HookSettings:
    fields: dict[str, object] = {"on": ("join",), "url": "https://a.example/in", "secret": HOOK_SECRET}
    return HookSettings(**(fields | changed))  # type: ignore[arg-type]


def problems(*hooks: HookSettings) -> list[str]:
    found = check_settings(Settings(hooks=hooks), dev=True, engine_schemes=["memory"])
    return [str(problem) for problem in found]


def test_a_hook_is_read_and_shown_without_its_secrets(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(HOOK_SECRET)
    secret.chmod(0o400)
    file = tmp_path / "greenroom.toml"
    file.write_text(
        f'[[hooks]]\non = ["connect", "join"]\nurl = "http://shop:8000/hook"\nsecret_file = "{secret}"\n'
        f'rooms = ["order-*", "my room"]\nheaders = ["X-Forwarded-For"]\ncookies = ["session"]\n'
        f'[[hooks]]\non = ["publish"]\nurl = "https://a.example"\nsecret = "{HOOK_SECRET}"\n'
        f'previous_secret = "{OLD_SECRET}"\nwhen_away = "allow"\n'
    )
    loaded = load_settings(file=file, environ=ENVIRON, flags={})
    shop, filtered = loaded.settings.hooks
    assert (shop.secret, shop.on, shop.rooms) == (HOOK_SECRET, ("connect", "join"), ("order-*", "my room"))
    assert (filtered.timeout_seconds, filtered.concurrency, filtered.queue) == (2, 16, 256)
    assert check_settings(loaded.settings, dev=False, engine_schemes=["memory"]) == []
    shown = render_settings(loaded)
    assert not [word for word in (HOOK_SECRET, OLD_SECRET) if word in shown + repr(loaded.settings)]
    file.write_text(shown)
    again, _ = load_settings(file=file, environ=ENVIRON, flags={}).settings.hooks
    assert again == shop


FLAWS: dict[str, tuple[HookSettings, str]] = {
    "no secret": (hook(secret=None), "hooks[0].secret: missing"),
    "another secret": (hook(secret="hunter2"), "hooks[0].secret: must be whsec_ and the base64"),
    "a weak previous one": (
        hook(previous_secret=f"whsec_{b64encode(b'abc' * 9).decode()}"),
        "hooks[0].previous_secret: too weak",
    ),
    "another scheme": (hook(url="ftp://a.example"), "hooks[0].url: must be an address such as"),
    "a password": (hook(url="https://a:hunter2@a.example"), "hooks[0].url: holds a user"),
    "no room's name": (hook(rooms=("b/*",)), "hooks[0].rooms: 'b/*' holds '/'"),
    "rooms for connect": (hook(on=("connect",), rooms=("a",)), "hooks[0].rooms: has no meaning for connect"),
}


@pytest.mark.parametrize(("flawed", "message"), FLAWS.values(), ids=FLAWS)
def test_a_hook_that_cannot_be_meant_is_refused(flawed: HookSettings, message: str) -> None:
    found = problems(flawed)
    assert [line for line in found if line.startswith(message)], found
    assert "hunter2" not in "".join(found)
    assert problems(hook()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "hooks[0].on: missing"),
        ("on = []", "hooks[0].on: must be"),
        ('on = ["leave"]', "each one of call, connect, join, publish"),
        ('on = ["join"]\nheaders = ["a b"]', "hooks[0].headers: must be"),
        ('on = ["join"]\nwhen_away = "maybe"', "hooks[0].when_away: must be"),
        ('on = ["join"]\ntimeout_seconds = 0', "hooks[0].timeout_seconds: must be"),
        ('on = ["join"]\nconcurrency = 0', "hooks[0].concurrency: must be"),
        ('on = ["join"]\ntimeout = 5', "the nearest known is hooks[0].timeout_seconds"),
    ],
)
def test_a_wrong_key_or_value_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "greenroom.toml"
    file.write_text(f'[[hooks]]\nurl = "https://a.example"\nsecret = "{HOOK_SECRET}"\n{text}\n')
    with pytest.raises(ConfigurationError) as caught:
        load_settings(file=file, environ=ENVIRON, flags={})
    assert message in str(caught.value)


def test_a_change_needs_a_restart() -> None:
    plan = plan_reload(Settings(), Settings(hooks=(hook(),)))
    assert (plan.settings, plan.reloaded, plan.needs_restart) == (Settings(), (), ("hooks",))
