"""Answers of a model that stream into a room, in one process: the room with its code, and the page. Run `python answers.py`, and open the
address it prints.

All in the room read along. The answer goes on when the page of who asked is reloaded or closed; who joins meanwhile sees all that was
said so far, and who comes later the whole as one message. It is in `answers.db`: when the program is killed and started again, the
answer goes on behind the last word that was stored. `PIECE_SECONDS` sets the model's pace. `GREENROOM_SECRET` and `GREENROOM_API_KEY` are
made up for the run if they are not set.
"""

import math
import os
import re
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import jwt
import msgspec
import trio
from quart import request
from quart_trio import QuartTrio
from trio import MemoryReceiveChannel, MemorySendChannel

from broker import Broker, load_settings, run_server
from broker.room_actors import Member, Refusal, RoomActor, Task, Timer, call

PAGE = Path(__file__).with_name("answers.html").read_text()
DEFAULTS = {
    "GREENROOM_SECRET": secrets.token_urlsafe(48),
    "GREENROOM_API_KEY": secrets.token_urlsafe(48),
    "GREENROOM_SERVER__ENGINE": "sqlite:///answers.db",
}
PIECE_SECONDS = float(os.environ.get("PIECE_SECONDS", "0.12"))
SILENCE_SECONDS = 60.0
"""Longest wait for the model's next piece."""
LOOK_SECONDS = 10.0
"""Longest time until an answer goes on after a restart, if nobody comes before."""
MOST_TRIES = 3
"""Times that the model is asked without a further piece of it."""

ANSWER = """You asked: “{question}” I am a stand-in for a model, a few lines of Python, and say the same to everybody. \
Reload this page while I speak: my answer goes on in the room, and you read on where it is by then, without a gap or a repetition. \
Or kill the server and start it again. Once I am done, all of this is stored as one message, for whoever comes later."""

Question = Annotated[str, msgspec.Meta(min_length=1, max_length=500)]


async def ask_model(question: str, said: str) -> AsyncGenerator[str]:
    """Yield the pieces of an answer that follow those which were said; the client of a real model goes in here."""
    for piece in re.findall(r"\s*\S+", ANSWER.format(question=question)[len(said) :]):
        yield piece
        await trio.sleep(PIECE_SECONDS)


async def run_model(pieces: AsyncGenerator[str], send: MemorySendChannel[str | Exception | None]) -> None:
    """Hand over the pieces of an answer as they come, then None, or the reason of their end."""
    try:
        async with aclosing(pieces):
            with trio.fail_after(SILENCE_SECONDS) as limit:
                async for piece in pieces:
                    send.send_nowait(piece)
                    limit.deadline = trio.current_time() + SILENCE_SECONDS
        send.send_nowait(None)
    except Exception as error:
        send.send_nowait(error)


async def next_piece(pieces: MemoryReceiveChannel[str | Exception | None]) -> str | None:
    piece = await pieces.receive()
    if isinstance(piece, Exception):
        raise piece
    return piece


class AnswerState(msgspec.Struct):
    question: str | None = None
    """The one that is being answered."""
    asked_by: str = ""
    text: str = ""
    """The answer so far."""
    tries: int = 0
    """Times that the model was asked since the last piece."""
    streams: int = 0
    """Times that the model was asked at all: a late piece of an earlier time is known by it."""


class Answers(RoomActor[AnswerState], pattern="answers.*"):
    ask_model = staticmethod(ask_model)

    @call
    async def ask(self, sender: Member | None, question: Question) -> None:
        if sender is None:
            raise Refusal("only visitors ask")
        if self.state.question is not None:
            raise Refusal("one question at a time")
        self.state.question, self.state.asked_by = question, sender.user_id
        self.say(self.shown(), ephemeral=True)
        self.begin()

    async def on_open(self) -> None:
        if self.state.question is not None:  # the task is lost: the server was killed, or a turn has failed
            self.begin()

    async def on_timer(self, timer: Timer) -> None:
        # It is there to open the room after a restart; `on_open` does the rest.
        if self.state.question is not None:
            self.set_timer("look", LOOK_SECONDS)

    async def on_join(self, member: Member) -> None:
        self.say(self.shown(), to=member)

    def begin(self) -> None:
        """Ask the model to answer, or to go on behind what it has said."""
        if self.state.tries == MOST_TRIES:
            self.end(is_whole=False)
            return
        self.state.tries += 1
        self.state.streams += 1
        self.set_timer("look", LOOK_SECONDS)
        send, self.pieces = trio.open_memory_channel[str | Exception | None](math.inf)
        self.spawn("model", run_model, self.ask_model(self.state.question, self.state.text), send)
        self.wait_for_piece()

    def wait_for_piece(self) -> None:
        self.spawn(f"piece of stream {self.state.streams}", next_piece, self.pieces)

    async def on_task(self, task: Task) -> None:
        if task.name != f"piece of stream {self.state.streams}":
            return
        if task.error is not None:
            self.log.warning("the model has failed", error=repr(task.error))
            self.begin()
        elif task.value is None:
            self.end(is_whole=True)
        else:
            self.state.tries = 0
            self.state.text += task.value
            self.say({"type": "piece", "text": task.value}, ephemeral=True)
            self.wait_for_piece()

    def end(self, *, is_whole: bool) -> None:
        """Say the whole answer in the place of its pieces: it alone is in the room's history."""
        state = self.state
        said = {"asked_by": state.asked_by, "question": state.question, "text": state.text}
        self.say({"type": "answer", **said, "is_whole": is_whole})
        self.cancel_timer("look")
        self.state = AnswerState(streams=state.streams)

    def shown(self) -> dict[str, Any]:
        """Return the answer that is under way, of which a page shows what follows by its pieces."""
        state = self.state
        return {
            "type": "answering",
            "asked_by": state.asked_by,
            "question": state.question,
            "text": state.text,
        }


def make_app(_broker: Broker) -> QuartTrio:
    app = QuartTrio(__name__)

    @app.get("/")
    async def page() -> str:
        return PAGE

    @app.get("/token")
    async def token() -> str:
        # Your application knows who is signed in; here everybody is who they say.
        claims = {"sub": request.args["user"], "exp": time.time() + 3600}
        return jwt.encode(claims, settings.auth.secret)

    return app


settings = load_settings(file=None, environ=DEFAULTS | dict(os.environ), flags={}).settings

if __name__ == "__main__":
    trio.run(partial(run_server, settings, make_app=make_app, rooms=[Answers], on_listening=print))
