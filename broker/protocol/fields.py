"""The types of message fields, with their limits and descriptions.

A type with a title is a definition of its own in the JSON Schema of the protocol; one with a title and nothing else
refers to that definition. Limits given as `extra_json_schema` are only described: `check_room_name` checks a room's name,
and messages of the server are not checked.
"""

from typing import Annotated, TypeAlias

from msgspec import Meta, Raw

from broker.model import MAX_ROOM_NAME_CHARACTERS, PRIVATE_PREFIX

_NAME_RULE = {
    "minLength": 1,
    # `not`, as `$` before a line end differs between dialects of regular expressions.
    "not": {"anyOf": [{"pattern": r"[/\u0000-\u001f\u007f-\u009f]"}, {"enum": [".", ".."]}]},
}

RoomName: TypeAlias = Annotated[
    str,
    Meta(
        title="RoomName",
        description="Name of a room: 1 to 128 characters (a private room, `user_{id}`, up to 133), none of them a control "
        "character or `/`; not `.` or `..`.",
        extra_json_schema={
            **_NAME_RULE,
            "anyOf": [
                {"maxLength": MAX_ROOM_NAME_CHARACTERS},
                {
                    "maxLength": MAX_ROOM_NAME_CHARACTERS + len(PRIVATE_PREFIX),
                    "pattern": f"^{PRIVATE_PREFIX}",
                },
            ],
        },
    ),
]

UserId: TypeAlias = Annotated[
    str,
    Meta(
        title="UserId",
        description="Id of a user: the `sub` of the token, 1 to 128 characters, as in the name of a room.",
        extra_json_schema={**_NAME_RULE, "maxLength": MAX_ROOM_NAME_CHARACTERS},
    ),
]

Id: TypeAlias = (
    Annotated[
        Annotated[str, Meta(max_length=128)] | Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)],
        Meta(
            title="RequestId",
            description="Chosen by the client; the answer to the request, or its `error`, has the same id. An integer is "
            "written without fraction and exponent.",
        ),
    ]
    | None
)

EventName: TypeAlias = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=128,
        title="EventName",
        description="Name of a client's event, of its own choice.",
    ),
]

MethodName: TypeAlias = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=128,
        title="MethodName",
        description="Name of a method of a room, of the application's choice.",
    ),
]

Offset: TypeAlias = Annotated[
    int,
    Meta(
        ge=0,
        le=2**63 - 1,
        title="Offset",
        description="Number of an event in its room: within an epoch from 1, without gap or repetition; 0 is before the "
        "first event.",
    ),
]

Epoch: TypeAlias = Annotated[
    str,
    Meta(
        max_length=64,
        title="Epoch",
        description="Id of one run of offsets of a room. With another epoch offsets begin anew, also on a live connection.",
    ),
]

RoomSize: TypeAlias = Annotated[
    int,
    Meta(
        title="RoomSize",
        description="Connections of users in the room, on all nodes.",
        extra_json_schema={"minimum": 0},
    ),
]

Milliseconds: TypeAlias = Annotated[
    int,
    Meta(
        title="Milliseconds",
        description="Duration that counts from the arrival of the message, by a clock that cannot be set.",
        extra_json_schema={"minimum": 0},
    ),
]

ConnectionId: TypeAlias = Annotated[
    str,
    Meta(
        title="ConnectionId",
        description="Id of a connection, the same in all its rooms; no other connection ever has it, on any node.",
    ),
]

Info: TypeAlias = Annotated[
    Raw,
    Meta(title="Info", description="Any JSON value but null: the claim `info` of the token of a connection."),
]

State: TypeAlias = Annotated[
    Raw,
    Meta(title="State", description="Any JSON value but null, which a connection shows of itself in a room."),
]

MAX_TAGS = 8
MAX_TAG_CHARACTERS = 64
MAX_WANTED_VALUES = 32

_TagText: TypeAlias = Annotated[str, Meta(min_length=1, max_length=MAX_TAG_CHARACTERS)]

Tags: TypeAlias = Annotated[
    dict[_TagText, _TagText],
    Meta(
        max_length=MAX_TAGS,
        title="Tags",
        description="Names and values of an event: at most 8, each of 1 to 64 characters. Members may join with a filter "
        "for them.",
    ),
]

WantedTags: TypeAlias = Annotated[
    dict[_TagText, Annotated[list[_TagText], Meta(min_length=1, max_length=MAX_WANTED_VALUES)]],
    Meta(
        max_length=MAX_TAGS,
        title="WantedTags",
        description="A filter: of each name in it, an event must have one of the values. At most 8 names, each with at most "
        "32 values.",
    ),
]

Excludable: TypeAlias = Annotated[str, Meta(min_length=1, max_length=MAX_ROOM_NAME_CHARACTERS)]
"""The id of a user or of a connection that an event is not for."""

EventJson: TypeAlias = Annotated[Raw, Meta(title="Event")]
"""An event as it is written, or a `withheld`; the definition of events is in `broker.protocol.schema`."""
