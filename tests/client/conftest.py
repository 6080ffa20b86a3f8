"""The node in memory of tests/transport and the served broker of tests/server, here too."""

from tests.server.conftest import serve
from tests.transport.conftest import open_node

__all__ = ["open_node", "serve"]
