"""The Redis servers of tests/support as fixtures."""

from tests.support.redis import redis, shared_redis

__all__ = ["redis", "shared_redis"]
