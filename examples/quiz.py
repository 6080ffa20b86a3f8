"""A quiz with a clock, in one process: the room with its code, and the page. Run `python quiz.py`, and open the address it prints.

Whoever answers right first has the point. The quiz is in `quiz.db`: when the program is killed and started again, the question, its
time and the points are as they were. `ANSWER_SECONDS` and `PAUSE_SECONDS` set its pace. `GREENROOM_SECRET` and `GREENROOM_API_KEY` are made up for the run if they are not set.
"""

import os
import secrets
import time
from functools import partial
from pathlib import Path
from typing import Any

import jwt
import msgspec
import trio
from quart import request
from quart_trio import QuartTrio

from broker import Broker, load_settings, run_server
from broker.room_actors import Member, Refusal, RoomActor, Timer, call

PAGE = Path(__file__).with_name("quiz.html").read_text()
DEFAULTS = {
    "GREENROOM_SECRET": secrets.token_urlsafe(48),
    "GREENROOM_API_KEY": secrets.token_urlsafe(48),
    "GREENROOM_SERVER__ENGINE": "sqlite:///quiz.db",
}


class Question(msgspec.Struct, frozen=True):
    text: str
    choices: tuple[str, ...]
    right: int


QUESTIONS = (
    Question("Which planet is the largest?", ("Mars", "Jupiter", "Venus"), 1),
    Question("How many strings has a violin?", ("4", "5", "6"), 0),
    Question("What is the capital of Australia?", ("Sydney", "Melbourne", "Canberra"), 2),
    Question("In which year did people first land on the Moon?", ("1959", "1969", "1979"), 1),
)
ANSWER_SECONDS = float(os.environ.get("ANSWER_SECONDS", "20"))
PAUSE_SECONDS = float(os.environ.get("PAUSE_SECONDS", "5"))


class QuizState(msgspec.Struct):
    asked: int = 0
    """Questions of this round that were asked; the last of them is on the page."""
    answered: list[str] = []
    """Users that have had their one guess."""
    won_by: str | None = None
    points: dict[str, int] = {}


class Quiz(RoomActor[QuizState], pattern="quiz.*"):
    async def on_join(self, member: Member) -> None:
        if not self.timers:  # nobody was here, and the quiz has stopped
            self.set_timer("ask", 0)
        self.say(self.shown(), to=member)

    @call
    async def answer(self, sender: Member | None, choice: int) -> bool:
        if sender is None or "end" not in self.timers:
            raise Refusal("there is no question")
        if sender.user_id in self.state.answered:
            raise Refusal("you have had your guess")
        self.state.answered.append(sender.user_id)
        if choice != QUESTIONS[self.state.asked - 1].right:
            return False
        self.state.won_by = sender.user_id
        self.state.points[sender.user_id] = self.state.points.get(sender.user_id, 0) + 1
        self.end()
        return True

    async def on_timer(self, timer: Timer) -> None:
        if timer.name == "end":
            self.end()
        elif self.members:
            self.ask()

    def ask(self) -> None:
        if self.state.asked == len(QUESTIONS):
            self.state = QuizState()
        self.state.asked += 1
        self.state.answered = []
        self.state.won_by = None
        self.set_timer("end", ANSWER_SECONDS)
        self.say(self.shown(), ephemeral=True)

    def end(self) -> None:
        self.cancel_timer("end")
        self.set_timer("ask", PAUSE_SECONDS)
        self.say(self.shown(), ephemeral=True)

    def shown(self) -> dict[str, Any]:
        """Return all that the page shows, so that a page that was away needs nothing else."""
        shown = {
            "type": "quiz",
            "points": self.state.points,
            "seconds_left": max(self.timers.values(), default=0),
        }
        if self.state.asked == 0:
            return shown
        question = QUESTIONS[self.state.asked - 1]
        shown |= {
            "number": self.state.asked,
            "of": len(QUESTIONS),
            "text": question.text,
            "choices": question.choices,
        }
        if "end" in self.timers:
            return shown
        return shown | {"right": question.right, "won_by": self.state.won_by}


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
    trio.run(partial(run_server, settings, make_app=make_app, rooms=[Quiz], on_listening=print))
