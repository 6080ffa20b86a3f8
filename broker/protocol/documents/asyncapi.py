"""The channels, operations and messages of the protocol as an AsyncAPI 3.0 document."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from broker.protocol.documents.codes import CLOSE_MEANINGS, is_final
from broker.protocol.documents.schema import (
    COMMAND_NAMES,
    EVENT_NAMES,
    MESSAGE_NAMES,
    RULES,
    Schema,
    examples_by_name,
    make_definitions,
    types_by_name,
)
from broker.protocol.messages import PROTOCOL_NAME

REPLIES: Mapping[str, str] = MappingProxyType(
    {
        "Chat": "Acknowledged",
        "Publish": "Acknowledged",
        "Call": "Result",
        "Ping": "Pong",
        "Join": "Joined",
        "Leave": "Left",
        "Presence": "PresenceList",
        "SetState": "Acknowledged",
        "History": "HistoryPage",
        "Refresh": "Refreshed",
    }
)
"""The answer to each command; each may be answered with `Error` instead."""

_ON_A_WEBSOCKET = (*EVENT_NAMES, *MESSAGE_NAMES)
_ON_A_STREAM = (
    *EVENT_NAMES,
    *(
        "Joined",
        "UserJoined",
        "UserLeft",
        "PresenceUpdate",
        "PresenceChanged",
        "Gap",
        "Withheld",
        "Left",
        "Reconnect",
        "Closing",
    ),
)
_SENT: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"ws": _ON_A_WEBSOCKET, "wsRoom": _ON_A_WEBSOCKET, "events": _ON_A_STREAM}
)
"""The messages that the server sends on each channel."""

_COMMANDED = ("ws", "wsRoom")

_TOKEN: Schema = {"type": "string", "description": "The token, where no header can be set."}
_ROOM_PARAMETER = {
    "room": {"description": "The name of the room, percent-encoded UTF-8.", "examples": ["lobby"]}
}


def asyncapi() -> dict[str, Any]:
    """Return the document."""
    definitions = make_definitions("#/components/schemas/{name}")
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": PROTOCOL_NAME,
            "version": "1",
            "description": f"Real-time rooms over WebSocket and server-sent events. {RULES}",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": _servers(),
        "channels": _channels(),
        "operations": _operations(),
        "components": {
            "messages": _messages(definitions),
            "schemas": definitions,
            "securitySchemes": _security_schemes(),
        },
    }


def _servers() -> dict[str, Any]:
    host = {"host": "{host}", "variables": {"host": {"default": "localhost:8000"}}}
    behind = "Behind a proxy that ends TLS:"
    return {
        "websocket": {**host, "protocol": "ws", "description": f"{behind} wss."},
        "http": {**host, "protocol": "http", "description": f"{behind} https."},
    }


def _channels() -> dict[str, Any]:
    return {
        "ws": {
            "address": "/ws",
            "description": "A connection that joins rooms by requests. Each request names its room.",
            **_websocket({}),
        },
        "wsRoom": {
            "address": "/ws/{room}",
            "parameters": _ROOM_PARAMETER,
            "description": "A connection that joins a room at once: the first message is `joined`. Requests without `room` are "
            "for this room; other rooms may be joined as well.",
            **_websocket(
                {
                    "offset": {
                        "type": "integer",
                        "minimum": 0,
                        "description": "With `epoch`, as `since` of a join.",
                    },
                    "epoch": {"$ref": "#/components/schemas/Epoch"},
                    "last": {
                        "type": "integer",
                        "minimum": 1,
                        "description": "As `last` of a join; not together with `offset`.",
                    },
                }
            ),
        },
        "events": {
            "address": "/api/rooms/{room}/events",
            "parameters": _ROOM_PARAMETER,
            "servers": [{"$ref": "#/servers/http"}],
            "description": "A room as server-sent events, for listening only. The data of an event is one message; that of "
            "`event: close` is `Closing`, that of all others a message as on a WebSocket. Stored events and `joined` have the id "
            "EPOCH:OFFSET, from which a client continues with the header `Last-Event-ID`. Missed events follow `joined` one by "
            "one.",
            "messages": _channel_messages(_SENT["events"]),
        },
    }


def _websocket(query: Mapping[str, Schema]) -> dict[str, Any]:
    """Return what all WebSockets have in common; `query` are further parameters of the address."""
    headers: dict[str, Schema] = {
        "Sec-WebSocket-Protocol": {
            "type": "string",
            "description": f"`{PROTOCOL_NAME}`, and the token as a second one: `bearer.JWT`. The server selects `{PROTOCOL_NAME}`.",
            "examples": [PROTOCOL_NAME, f"{PROTOCOL_NAME}, bearer.JWT"],
        },
        "Authorization": {"type": "string", "description": "The token: `Bearer JWT`."},
        "Origin": {"type": "string", "description": "Of browsers: one of `websocket.allowed_origins`."},
    }
    binding = {
        "method": "GET",
        "query": {"type": "object", "properties": {"token": _TOKEN, **query}},
        "headers": {"type": "object", "properties": headers},
        "bindingVersion": "0.1.0",
    }
    return {
        "servers": [{"$ref": "#/servers/websocket"}],
        "messages": _channel_messages((*COMMAND_NAMES, *_ON_A_WEBSOCKET)),
        "bindings": {"ws": binding},
        "x-subprotocol": PROTOCOL_NAME,
        "x-close-codes": [
            {
                "code": int(code),
                "name": code.name.lower(),
                "meaning": meaning,
                "reconnect": not is_final(code),
            }
            for code, meaning in CLOSE_MEANINGS.items()
        ],
    }


def _channel_messages(names: Iterable[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/messages/{name}"} for name in names}


def _operations() -> dict[str, Any]:
    """Return one operation for each command and channel, and one for all that the server sends on a channel."""
    operations: dict[str, Any] = {}
    for channel in _COMMANDED:
        for name in COMMAND_NAMES:
            answers = _of_channel(channel, (REPLIES[name], "Error"))
            operations[f"{channel}{name}"] = {
                **_operation("receive", channel, (name,)),
                "reply": {"channel": {"$ref": f"#/channels/{channel}"}, "messages": answers},
            }
    for channel, names in _SENT.items():
        operations[f"{channel}Send"] = _operation("send", channel, names)
    operations["eventsSend"]["bindings"] = {
        "http": {
            "method": "GET",
            "query": {
                "type": "object",
                "properties": {
                    "token": _TOKEN,
                    "last_event_id": {
                        "type": "string",
                        "description": "Instead of the header `Last-Event-ID`.",
                    },
                },
            },
            "bindingVersion": "0.3.0",
        }
    }
    return operations


def _operation(action: str, channel: str, names: Iterable[str]) -> dict[str, Any]:
    schemes = ("queryToken", "bearerToken", *(("apiKey",) if channel == "events" else ("subprotocolToken",)))
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": _of_channel(channel, names),
        "security": [{"$ref": f"#/components/securitySchemes/{name}"} for name in schemes],
    }


def _of_channel(channel: str, names: Iterable[str]) -> list[dict[str, str]]:
    return [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in names]


def _messages(definitions: Mapping[str, Schema]) -> dict[str, Any]:
    examples = examples_by_name()
    types = types_by_name() | {"ServiceEvent": "ServiceEvent", "Closing": "close"}
    messages: dict[str, Any] = {}
    for name, kind in types.items():
        schema = definitions[name]
        messages[name] = {
            "name": kind,
            "title": name,
            "summary": schema["description"],
            "payload": {"$ref": f"#/components/schemas/{name}"},
            "examples": [{"payload": payload} for payload in examples[name]],
        }
        if "id" in schema["properties"]:
            messages[name]["correlationId"] = {"location": "$message.payload#/id"}
    return messages


def _security_schemes() -> dict[str, Any]:
    return {
        "queryToken": {
            "type": "httpApiKey",
            "name": "token",
            "in": "query",
            "description": "A client's token.",
        },
        "bearerToken": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "A client's token.",
        },
        "subprotocolToken": {
            "type": "httpApiKey",
            "name": "Sec-WebSocket-Protocol",
            "in": "header",
            "description": f"A client's token as a subprotocol: `{PROTOCOL_NAME}, bearer.JWT`, as browsers can set no headers.",
        },
        "apiKey": {
            "type": "http",
            "scheme": "bearer",
            "description": "The API key of services: listens unseen.",
        },
    }
