"""`config show`: every key, loadable again, and no secret in it."""

import tomllib
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from broker.config.keys import read_schema
from broker.config.load import Loaded, load_settings
from broker.config.overrides import from_flags
from broker.config.render import render_settings
from broker.config.settings import Settings
from broker.config.toml import from_toml

SCHEMA = read_schema(Settings)


def from_environment(**environ: str) -> Loaded:
    return load_settings(file=None, environ=environ, flags={})


def test_every_key_is_there_with_its_value_meaning_and_origin() -> None:
    text = render_settings(from_environment(GREENROOM_SERVER__PORT="9"))
    lines = text.splitlines()
    assert lines[lines.index("port = 9  # GREENROOM_SERVER__PORT") - 1] == "# TCP port; 0 takes a free one"
    assert 'engine = "memory://"  # default' in lines
    assert "# audience =  # default: not set" in lines
    assert "# [[rooms]]  # none is set" in lines
    for key in SCHEMA.plain_keys():
        assert f"{key.name} = " in text
        assert f"# {key.description}" in lines


def test_secrets_are_told_to_be_set_but_not_shown() -> None:
    text = render_settings(
        from_environment(GREENROOM_SECRET="hunter2", GREENROOM_SERVER__ENGINE="redis://:pw@host/0")
    )
    assert '# secret = "***"  # set, not shown; GREENROOM_SECRET' in text
    assert "# api_key =  # default: not set" in text
    assert 'engine = "redis://***@host/0"' in text
    assert "hunter2" not in text
    assert "pw" not in text


def test_room_rules_are_shown_in_order(tmp_path: Path) -> None:
    file = tmp_path / "green\nroom.toml"
    file.write_text('[[rooms]]\npattern = "a"\n[[rooms]]\npattern = "b"\nhistory_bytes = 5\n')
    loaded = load_settings(file=file, environ={}, flags={})
    text = render_settings(loaded)
    assert f'pattern = "b"  # {tmp_path}/green?room.toml:4\n' in text
    shown = from_toml(text, SCHEMA, file="shown")
    assert [(item.path, item.value) for item in shown.found if item.index is not None] == [
        ("rooms[0].pattern", "a"),
        ("rooms[0].access", "any"),
        ("rooms[1].pattern", "b"),
        ("rooms[1].access", "any"),
        ("rooms[1].history_bytes", 5),
    ]


@given(
    text=st.text(st.characters(exclude_categories=("Cs",))).filter(lambda text: "://" not in text),
    port=st.integers(0, 65_535),
    seconds=st.floats(0, 3600),
    flag=st.booleans(),
    origins=st.lists(st.text(st.characters(exclude_categories=("Cs",))), max_size=3),
)
def test_what_is_shown_loads_to_the_same_settings(
    text: str, port: int, seconds: float, flag: bool, origins: list[str]
) -> None:
    flags = {
        "server.host": text,
        "server.port": port,
        "server.drain_seconds": seconds,
        "auth.private_user_rooms": flag,
        "http.cors_origins": origins,
    }
    assert from_flags(flags, SCHEMA).problems == []
    shown = render_settings(load_settings(file=None, environ={}, flags=flags))
    tables = tomllib.loads(shown)
    assert tables["server"]["host"] == text
    assert tables["http"]["cors_origins"] == origins
    assert (tables["server"]["port"], tables["server"]["drain_seconds"]) == (port, seconds)
    assert tables["auth"]["private_user_rooms"] is flag
    assert from_toml(shown, SCHEMA, file="shown").problems == []
