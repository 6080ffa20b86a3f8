"""Messages between nodes, which any program may publish: read or refused with ValueError, and written back the same."""

import msgspec

from broker.engine.redis.replies import (
    is_published,
    is_remote_change,
    is_removal,
    pack_header,
    pack_member,
    pack_removal,
    parse_header,
    parse_published,
    parse_remote_change,
    parse_removal,
)

SEEDS = (
    msgspec.msgpack.encode(
        ("epoch", 5, [1, '{"type":"x"}', 0, "{}"], ['["x"]', '["event","move","ann","c"]'])
    ),
    msgspec.msgpack.encode(("epoch", 5, [1, '{"type":"chat","user_id":"ann","text":"hi"}'])),
    msgspec.msgpack.encode(
        {"node": "n", "version": 2, "follows": 1, "members": ["c-1", '["ann",5,null,{"a":1}]', "c-2", ""]}
    ),
    msgspec.msgpack.encode({"node": "n", "version": 2, "follows": 1, "members": {}}),
    msgspec.msgpack.encode(("n", "ann")),
    b'["event","move","ann","c-1",[["kind","goal"]],["c-2","bob"]]',
    b"\xdd\xff\xff\xff\xff",
    b"\x93\xa1e\x01\xdd\xff\xff\xff\xff",
)


def check(data: bytes) -> None:
    """Read a message as each kind."""
    assert is_published(data) + is_remote_change(data) + is_removal(data) <= 1
    change = _try(parse_remote_change, data)
    if change is not None:
        flat = [
            part
            for connection, shown in change.members.items()
            for part in (connection, pack_member(shown).decode())
        ]
        packed = {"node": change.node, "version": change.version, "follows": change.follows, "members": flat}
        assert parse_remote_change(msgspec.msgpack.encode(packed)) == change
    removal = _try(parse_removal, data)
    if removal is not None:
        packed_removal = pack_removal(*removal)
        assert is_removal(packed_removal)
        assert parse_removal(packed_removal) == removal
    header = _try(parse_header, data)
    if header is not None:
        assert parse_header(pack_header(header)) == header
    published = _try(parse_published, data)
    if published is not None:
        for event in published[1]:
            assert event.header is not None
            assert parse_header(pack_header(event.header)) == event.header


def _try(parse, data):  # type: ignore[no-untyped-def]
    try:
        return parse(data)
    except ValueError:
        return None
