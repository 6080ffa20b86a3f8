"""A program with rooms inside in which something hangs on purpose: `python hanging.py WHAT WINDOW_SECONDS FOLDER`."""

import ctypes
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

import msgspec
import trio

import broker.engine.sqlite.engine
from broker import run_server
from broker.config.settings import Settings
from broker.log import open_log
from tests.support.secrets import API_KEY, SECRET

SECRETS: dict[str, Any] = {
    "auth": {"secret": SECRET},
    "http": {"api_key": API_KEY},
}


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def hang_in_c(*_arguments: object) -> NoReturn:
    """Lock a mutex twice: the system's own call goes on after a signal, and Python's handlers never run."""
    say("hanging")
    mutex = ctypes.create_string_buffer(256)
    lock = ctypes.CDLL(None).pthread_mutex_lock
    while True:
        lock(mutex)


def hang_in_python(*_arguments: object) -> NoReturn:
    say("hanging")
    while True:
        time.sleep(3600)


async def shielded_task() -> None:
    say("hanging")
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()


async def stuck_thread() -> None:
    say("hanging")
    await trio.to_thread.run_sync(threading.Event().wait)


async def loop_in_c() -> None:
    hang_in_c()


async def loop_in_python() -> None:
    hang_in_python()


async def nothing() -> None:
    """Do not hang."""


REQUESTS = {
    "a shielded task": shielded_task,
    "a stuck thread": stuck_thread,
    "the loop, in C": loop_in_c,
    "the loop, in Python": loop_in_python,
}
STOPS = {f"{what}, when it stops": hang for what, hang in REQUESTS.items()}
CLOSES: dict[str, Callable[..., NoReturn]] = {
    "the engine's close, in C": hang_in_c,
    "the engine's close, in Python": hang_in_python,
}
ALL = [*REQUESTS, *STOPS, *CLOSES]


def make_app(what: str) -> Callable[..., Any]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await STOPS.get(what, nothing)()
            return
        await REQUESTS.get(what, nothing)()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return app


def main() -> None:
    what, window_seconds, folder = sys.argv[1], float(sys.argv[2]), sys.argv[3]
    if what in CLOSES:
        broker.engine.sqlite.engine.close_writer = CLOSES[what]
    server = {"port": 0, "drain_seconds": window_seconds, "engine": f"sqlite:///{folder}/rooms.db"}
    settings = msgspec.convert({**SECRETS, "server": server}, Settings)

    async def serve() -> None:
        await run_server(
            settings,
            make_app=lambda _broker: make_app(what),
            on_listening=say,
            log=open_log(settings.log, sys.stderr),
        )

    trio.run(serve)


if __name__ == "__main__":
    main()
