"""Readiness of the server, with reasons."""

from datetime import UTC, datetime

import trio

from broker.engine.base import Engine
from broker.errors import EngineUnavailableError


async def find_obstacles(engine: Engine, *, is_draining: bool, patience_seconds: float) -> list[str]:
    """Return the reasons why the server is not ready; the engine has `patience_seconds` to answer."""
    reasons = ["draining"] if is_draining else []
    try:
        with trio.fail_after(patience_seconds):
            await engine.wait_ready()
    except trio.TooSlowError:
        reasons.append(f"engine: no answer within {patience_seconds:g} seconds")
    except EngineUnavailableError as error:
        reasons.append(_reason(error))
    return reasons


def _reason(error: EngineUnavailableError) -> str:
    """Return the kind of trouble and when it began: `/ready` is open to all, so the details are in the log only."""
    if error.since is None:
        return error.trouble.value
    since = datetime.fromtimestamp(error.since, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"{error.trouble.value} (since {since})"
