"""Errors of a program with a broker inside are raised unchanged."""

import socket
from functools import partial

import msgspec
import pytest
import trio

from broker import Broker, open_broker, run_server
from broker.config.settings import Settings
from broker.engine.memory import MemoryEngine
from tests.support.secrets import API_KEY, SECRET

SECRETS = {
    "auth": {"secret": SECRET},
    "http": {"api_key": API_KEY},
}


def settings_with(port: int) -> Settings:
    return msgspec.convert({**SECRETS, "server": {"port": port}}, Settings)


async def test_a_port_in_use_is_named():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        named = rf"Address already in use: '127\.0\.0\.1:{port}'$"
        with pytest.raises(OSError, match=named):
            async with open_broker(settings_with(port)) as broker:
                await broker.serve()
        with pytest.raises(OSError, match=named):
            await run_server(settings_with(port))


async def test_a_host_that_is_none_is_named():
    settings = msgspec.convert({**SECRETS, "server": {"host": "no.such.invalid", "port": 8000}}, Settings)
    with pytest.raises(socket.gaierror, match=r"no\.such\.invalid:8000"):
        async with open_broker(settings) as broker:
            await broker.serve()


async def test_an_exception_of_the_block_comes_out_as_it_is():
    with pytest.raises(KeyError, match="mine"):
        async with open_broker(settings_with(0)):
            raise KeyError("mine")
    with pytest.RaisesGroup(KeyError, match="mine"):
        async with open_broker(settings_with(0)):
            raise ExceptionGroup("mine", [KeyError("a")])


async def test_an_application_that_cannot_be_made_is_no_group():
    def make_app(_broker: Broker) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await run_server(settings_with(0), make_app=make_app)


async def test_a_whole_server_takes_a_programs_own_parts():
    engine = MemoryEngine(wall_clock=lambda: 1_234_567_890.0, idempotency_seconds=300.0)
    brokers: list[Broker] = []

    async def publish(_url: str) -> None:
        await brokers[0].publish("den", {"type": "note"})
        done.set()

    done = trio.Event()
    async with trio.open_nursery() as nursery:
        run = partial(
            run_server,
            settings_with(0),
            make_app=brokers.append,
            on_listening=lambda url: nursery.start_soon(publish, url),
            engine=engine,
        )
        nursery.start_soon(run)
        await done.wait()
        nursery.cancel_scope.cancel()
    assert (await engine.position("den")).offset == 1
