"""The node of tests/transport, here too."""

from tests.transport.conftest import open_node

__all__ = ["open_node"]
