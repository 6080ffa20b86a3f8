"""The node of tests/support as a fixture."""

from tests.support.node import open_node

__all__ = ["open_node"]
