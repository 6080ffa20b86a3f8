"""Whether the server is alive, and ready, with the reasons if it is not."""

from datetime import UTC, datetime

import msgspec
import trio

from broker.engine.base import Engine
from broker.errors import EngineUnavailableError
from broker.http.services import HttpServices

READY_SECONDS = 2.0
"""Time limit for the engine's answer whether it is ready."""


class Health(msgspec.Struct, frozen=True):
    """The process is alive."""

    status: str


ALIVE = Health("ok")


class Readiness(msgspec.Struct, frozen=True):
    """Whether the server is ready, with the reasons if it is not."""

    status: str
    reasons: list[str]

    @property
    def http_status(self) -> int:
        """The status of the answer."""
        return 503 if self.reasons else 200


async def find_readiness(services: HttpServices) -> Readiness:
    """Return whether the server is ready."""
    reasons = await find_obstacles(
        services.engine, is_draining=services.is_draining(), patience_seconds=READY_SECONDS
    )
    if services.verifier.lacks_keys:
        reasons.append("auth: the keys of tokens have not been fetched yet")
    return Readiness("not ready" if reasons else "ready", reasons)


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
