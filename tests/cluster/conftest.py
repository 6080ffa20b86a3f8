"""Real Redis servers as fixtures."""

from tests.engine.redis.servers import redis

__all__ = ["redis"]
