"""An auction in one process: the room with its code, and the page. Run `python auction.py`, and open the address it prints.

The first bid at a price holds, and each bid moves the end. The auction is in `auction.db`: when the program is killed and started
again, the bids and the end are as they were. `?lot=violin` is another lot. `CLOSE_SECONDS` sets its pace. `GREENROOM_SECRET` and
`GREENROOM_API_KEY` are made up for the run if they are not set.
"""

import os
import secrets
import time
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import jwt
import msgspec
import trio
from quart import request
from quart_trio import QuartTrio

from broker import Broker, load_settings, run_server
from broker.room_actors import Member, Refusal, RoomActor, Timer, call

PAGE = Path(__file__).with_name("auction.html").read_text()
DEFAULTS = {
    "GREENROOM_SECRET": secrets.token_urlsafe(48),
    "GREENROOM_API_KEY": secrets.token_urlsafe(48),
    "GREENROOM_SERVER__ENGINE": "sqlite:///auction.db",
}
LOTS = {"auction.lamp": "A lamp of brass", "auction.violin": "A violin with four strings"}
CLOSE_SECONDS = float(os.environ.get("CLOSE_SECONDS", "30"))

Price = Annotated[int, msgspec.Meta(gt=0, le=1_000_000)]


class AuctionState(msgspec.Struct):
    price: int = 0
    bidder: str | None = None
    is_closed: bool = False


class Auction(RoomActor[AuctionState], pattern="auction.*"):
    async def on_join(self, member: Member) -> None:
        if self.name not in LOTS:
            raise Refusal("there is no such lot")
        if not self.state.is_closed and not self.timers:  # the first visitor opens it
            self.set_timer("close", CLOSE_SECONDS)
        self.say(self.shown(), to=member)

    @call
    async def bid(self, sender: Member | None, price: Price) -> None:
        if sender is None:
            raise Refusal("only visitors bid")
        if self.state.is_closed:
            raise Refusal("the auction is closed")
        if price <= self.state.price:
            raise Refusal(f"{self.state.price} is bid already")
        self.state.price, self.state.bidder = price, sender.user_id
        self.set_timer("close", CLOSE_SECONDS)  # in the place of the one that was set
        self.say(self.shown())

    async def on_timer(self, timer: Timer) -> None:
        self.state.is_closed = True
        self.say(self.shown())

    def shown(self) -> dict[str, Any]:
        """Return all that the page shows; the room's history of it is the record of the auction."""
        seconds_left = self.timers.get("close", 0)
        return {
            "type": "auction",
            "lot": LOTS[self.name],
            "seconds_left": seconds_left,
            **msgspec.structs.asdict(self.state),
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
    trio.run(partial(run_server, settings, make_app=make_app, rooms=[Auction], on_listening=print))
