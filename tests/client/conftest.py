"""The node and the served broker of tests/support as fixtures."""

from tests.support.node import open_node
from tests.support.served import serve

__all__ = ["open_node", "serve"]
