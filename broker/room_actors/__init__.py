"""Rooms that applications write: a class is the room, with state and timers that outlive the process.

    import msgspec
    from broker.room_actors import Member, Refusal, RoomActor, call

    class Score(msgspec.Struct):
        points: dict[str, int] = {}

    class Game(RoomActor[Score], pattern="game.*"):
        @call
        async def hit(self, sender: Member | None, points: int) -> int:
            if sender is None:
                raise Refusal("only players hit")
            total = self.state.points.get(sender.user_id, 0) + points
            self.state.points[sender.user_id] = total
            self.say({"type": "score", "user_id": sender.user_id, "points": total})
            return total

`greenroom serve --rooms module` serves the classes of a module, `open_broker(settings, rooms=[Game])` those of a program.
"""

from broker.room_actors.actor import RoomActor
from broker.room_actors.calls import call
from broker.room_actors.values import Member, Message, MessageKind, Refusal, Task, Timer

__all__ = ["Member", "Message", "MessageKind", "Refusal", "RoomActor", "Task", "Timer", "call"]
