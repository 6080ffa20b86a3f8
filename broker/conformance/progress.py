"""The values that one step of a script leaves for the next."""

import attrs
import trio

from broker.conformance.room import USER, Message
from broker.conformance.stage import Stage
from broker.protocol.commands import Chat, Publish


@attrs.define
class Progress:
    """A script that is being played on a stage."""

    stage: Stage
    delay_from: float = attrs.Factory(trio.current_time)
    """The moment before the last message with a delay was sent: the client has received it later."""
    asked: Chat | Publish | None = None
    """The client's last chat."""
    event: Message | None = None
    """Its event, once it is stored."""

    def store_asked(self) -> Message:
        """Return the event of the client's last chat, which is stored once."""
        assert self.asked is not None, "a script asks first"
        if self.event is None:
            self.event = self.stage.room.store({"type": "chat", "user_id": USER, "text": text_of(self.asked)})
        return self.event


def text_of(command: Chat | Publish) -> str:
    """Return the text of a chat, or the name of an event."""
    return command.text if isinstance(command, Chat) else command.event
