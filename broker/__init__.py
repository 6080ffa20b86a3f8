"""Greenroom: real-time rooms over WebSocket and HTTP.

The names below are public, and so are `broker.client`, `broker.hooks`, `broker.room_actors`, `broker.testing` and the structs of
`broker.config.settings`; the rest is private and may change in any release. A name's module is imported on first use.
"""

from broker.lazy_names import lazy_names

# As in typing. Nothing is imported here, so that a server installs its signal handlers first.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from broker.assembly import open_broker
    from broker.client.connecting import connect
    from broker.client.errors import ClientError
    from broker.client.publisher import AsyncPublisher, Publisher
    from broker.config.load import load_settings
    from broker.config.settings import Settings
    from broker.errors import (
        ConfigurationError,
        EngineUnavailableError,
        GreenroomError,
        Refused,
        StoppedAtOnceError,
    )
    from broker.process import run_server
    from broker.server import Broker

_PLACES = {
    "AsyncPublisher": "broker.client.publisher",
    "Broker": "broker.server",
    "ClientError": "broker.client.errors",
    "ConfigurationError": "broker.errors",
    "EngineUnavailableError": "broker.errors",
    "GreenroomError": "broker.errors",
    "Publisher": "broker.client.publisher",
    "Refused": "broker.errors",
    "Settings": "broker.config.settings",
    "StoppedAtOnceError": "broker.errors",
    "connect": "broker.client.connecting",
    "load_settings": "broker.config.load",
    "open_broker": "broker.assembly",
    "run_server": "broker.process",
}

__all__ = [
    "AsyncPublisher",
    "Broker",
    "ClientError",
    "ConfigurationError",
    "EngineUnavailableError",
    "GreenroomError",
    "Publisher",
    "Refused",
    "Settings",
    "StoppedAtOnceError",
    "connect",
    "load_settings",
    "open_broker",
    "run_server",
]


__getattr__ = lazy_names(__name__, _PLACES)
