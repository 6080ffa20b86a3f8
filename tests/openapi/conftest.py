"""The served broker of tests/support as a fixture."""

from tests.support.served import serve

__all__ = ["serve"]
