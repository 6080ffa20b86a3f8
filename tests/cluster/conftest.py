"""Real Redis servers as fixtures, and whole brokers before them."""

from tests.engine.redis.servers import redis, shared_redis
from tests.server.conftest import serve

__all__ = ["redis", "serve", "shared_redis"]
