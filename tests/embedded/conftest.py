"""The served broker of tests/server, here too."""

from tests.server.conftest import serve

__all__ = ["serve"]
