"""How the server says that it is."""

import trio

from broker.errors import EngineUnavailableError
from tests.support.engines import LongWayEngine


class SickEngine(LongWayEngine):
    def __init__(self, cure):
        super().__init__(wall_clock=lambda: 1.7e9, idempotency_seconds=300)
        self.cure = cure

    async def wait_ready(self):
        await self.cure()


async def test_health(world):
    response = await world.client.get("/health")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


async def test_ready(world):
    response = await world.client.get("/ready")
    assert (response.status_code, response.json()) == (200, {"status": "ready", "reasons": []})


async def test_a_stopping_server_is_alive_and_not_ready(world):
    world.draining.set()
    response = await world.client.get("/ready")
    assert (response.status_code, response.json()) == (503, {"status": "not ready", "reasons": ["draining"]})
    assert (await world.client.get("/health")).status_code == 200


async def test_a_server_without_its_engine_is_not_ready(open_world):
    async def fail() -> None:
        raise EngineUnavailableError("connection refused")

    async with open_world(engine=SickEngine(fail)) as world:
        response = await world.client.get("/ready")
        assert response.status_code == 503
        assert response.json()["reasons"] == ["engine: unavailable"]


async def test_an_engine_that_does_not_answer_is_not_ready(open_world):
    async with open_world(engine=SickEngine(trio.sleep_forever)) as world:
        began = trio.current_time()
        response = await world.client.get("/ready")
        assert response.status_code == 503
        assert response.json()["reasons"] == ["engine: no answer within 2 seconds"]
        assert trio.current_time() - began > 1.9
