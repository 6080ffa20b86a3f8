"""The services that HTTP routes use."""

from collections.abc import Callable
from typing import Protocol

import attrs
from prometheus_client import CollectorRegistry

from broker.auth.api_keys import ApiKeys
from broker.auth.bearer import ApiKey
from broker.auth.permissions import AccessPolicy
from broker.auth.remote_keys import RemoteKeySets
from broker.auth.revocations import RevocationTable
from broker.auth.tokens import TokenVerifier
from broker.config.check import hmac_algorithms
from broker.config.settings import Settings
from broker.engine.base import Engine
from broker.hooks.hooks import Hooks
from broker.http.metrics import HttpMetrics
from broker.http.nodes.busiest import SampleWindow
from broker.http.nodes.node import Node, this_node
from broker.http.nodes.siblings import Siblings
from broker.http.nodes.traffic import Traffic
from broker.log import Log
from broker.model import WallClock
from broker.refusals import Refusals
from broker.rooms.directory import Rooms, shows_presence_data
from broker.sessions.allowance import Allowances
from broker.sessions.connections import ConnectionIds, Connections
from broker.sessions.revocations import Revocations
from broker.traces.tracer import Tracer


class ClientPlaces(Protocol):
    """The places of addresses, for clients behind a trusted proxy, whose connections are no client's own."""

    def take_place(self, address: str) -> bool:
        """Take a place; False if the address has no more."""
        ...

    def give_back(self, address: str) -> None:
        """Give back a place that was taken, once."""
        ...


@attrs.define
class HttpServices:
    """The parts of the broker that HTTP requests reach; the API never goes around the rooms.

    A reload replaces the settings and the verifier.
    """

    settings: Settings
    rooms: Rooms
    connections: Connections
    engine: Engine
    verifier: TokenVerifier
    remote_keys: RemoteKeySets
    revoked: RevocationTable
    """The revocations that verifiers of these services refuse tokens by."""
    revocations: Revocations
    policy: AccessPolicy
    api_keys: ApiKeys
    wall_clock: WallClock
    log: Log
    is_draining: Callable[[], bool]
    metrics: CollectorRegistry
    node: Node = attrs.Factory(this_node)
    siblings: Siblings | None = None
    """The other workers of this machine."""
    requests: HttpMetrics = attrs.Factory(HttpMetrics)
    metrics_key: ApiKey | None = None
    """The key of scrapers; None lets anybody scrape."""
    traffic: Traffic = attrs.Factory(Traffic)
    samples: SampleWindow = attrs.Factory(SampleWindow)
    allowances: Allowances = attrs.field(
        default=attrs.Factory(lambda self: Allowances(self.settings), takes_self=True)
    )
    """The same as the sessions'."""
    connection_ids: ConnectionIds = attrs.Factory(ConnectionIds)
    """The same as the sessions'."""
    client_places: ClientPlaces | None = None
    """None if there is no port, so that nobody comes through a proxy."""
    is_dev: bool = False
    hooks: Hooks | None = None
    """The same as the sessions'."""
    tracer: Tracer | None = None
    """Makes spans of the requests that publish; None if traces are off."""
    refusals: Refusals = attrs.field(default=attrs.Factory(lambda self: Refusals(self.log), takes_self=True))

    def shows_data(self, room: str) -> bool:
        """Whether a room shows info and state."""
        return shows_presence_data(self.settings, room)

    @property
    def makes_tokens(self) -> bool:
        """Whether the API makes client tokens: for trials only, and only with a secret that signs them."""
        return self.is_dev and bool(hmac_algorithms(self.settings.auth))
