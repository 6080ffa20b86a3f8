"""The served broker of tests/support, and the packages of the example in Express, as fixtures."""

from tests.support.programs import node_modules
from tests.support.served import serve

__all__ = ["node_modules", "serve"]
