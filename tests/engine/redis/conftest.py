"""Real Redis servers as fixtures."""

from tests.engine.redis.servers import redis, shared_redis

__all__ = ["redis", "shared_redis"]
