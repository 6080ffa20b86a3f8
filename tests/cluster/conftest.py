"""The Redis servers and the served broker of tests/support as fixtures."""

from tests.support.redis import redis, shared_redis
from tests.support.served import serve

__all__ = ["redis", "serve", "shared_redis"]
