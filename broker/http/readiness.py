"""Whether the server can serve, and why not."""

import trio

from broker.engine.base import Engine
from broker.errors import EngineUnavailableError


async def find_obstacles(engine: Engine, *, is_draining: bool, patience_seconds: float) -> list[str]:
    """Return what keeps the server from serving; the engine has `patience_seconds` to say that it is ready."""
    reasons = ["draining"] if is_draining else []
    try:
        with trio.fail_after(patience_seconds):
            await engine.wait_ready()
    except trio.TooSlowError:
        reasons.append(f"engine: no answer within {patience_seconds:g} seconds")
    except EngineUnavailableError as error:
        reasons.append(f"engine: {error}")
    return reasons
