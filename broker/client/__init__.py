"""Clients of a Greenroom server: `connect` for trio and asyncio programs, `Publisher` and `AsyncPublisher` for any service.

A name imports its modules when it is first asked for: a publisher needs neither trio nor the server.
"""

from typing import TYPE_CHECKING

from broker.client.errors import (
    AddressError,
    ClientError,
    ClosedError,
    ConnectionLostError,
    NotSentError,
    RefusedError,
    RemovedError,
    UnavailableError,
)
from broker.lazy_names import lazy_names

if TYPE_CHECKING:
    from broker.client.client import Client, State
    from broker.client.connecting import connect
    from broker.client.publisher import AsyncPublisher, Publisher
    from broker.client.results import (
        MessagePage,
        OnlineUser,
        Outcome,
        Published,
        Revoked,
        RoomDetails,
        RoomPage,
        RoomSummary,
        UserConnections,
        UserPage,
        UserRoom,
    )
    from broker.client.room import History, MemberConnection, Presence, Room
    from broker.model import Position

_PLACES = {
    "UserPage": "broker.client.results",
    "UserConnections": "broker.client.results",
    "UserRoom": "broker.client.results",
    "RoomSummary": "broker.client.results",
    "RoomPage": "broker.client.results",
    "Revoked": "broker.client.results",
    "RoomDetails": "broker.client.results",
    "Outcome": "broker.client.results",
    "OnlineUser": "broker.client.results",
    "MessagePage": "broker.client.results",
    "AsyncPublisher": "broker.client.publisher",
    "Client": "broker.client.client",
    "History": "broker.client.room",
    "MemberConnection": "broker.client.room",
    "Position": "broker.model",
    "Presence": "broker.client.room",
    "Published": "broker.client.results",
    "Publisher": "broker.client.publisher",
    "Room": "broker.client.room",
    "State": "broker.client.client",
    "connect": "broker.client.connecting",
}

__all__ = [
    "AddressError",
    "AsyncPublisher",
    "Client",
    "ClientError",
    "ClosedError",
    "ConnectionLostError",
    "History",
    "MemberConnection",
    "MessagePage",
    "NotSentError",
    "OnlineUser",
    "Outcome",
    "Position",
    "Presence",
    "Published",
    "Publisher",
    "RefusedError",
    "RemovedError",
    "Revoked",
    "Room",
    "RoomDetails",
    "RoomPage",
    "RoomSummary",
    "State",
    "UnavailableError",
    "UserConnections",
    "UserPage",
    "UserRoom",
    "connect",
]

__getattr__ = lazy_names(__name__, _PLACES)
