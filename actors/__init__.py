"""Actors on trio: supervised tasks with a mailbox, independent of the broker.

An `Actor` is state that one task touches. Others hold its `Ref` to `tell` it messages or to `ask` it. A `Supervisor`
runs actors in a nursery and restarts those that fail; a `Registry` starts them by key and passivates the idle
ones. No task outlives the nursery that owns it. An actor that counts, used alone::

    import attrs
    import trio
    from actors import Actor, Reply, open_supervisor

    @attrs.frozen
    class Total:
        reply: Reply[int]

    class Counter(Actor[int | Total]):
        def __init__(self) -> None:
            self.total = 0

        async def receive(self, message: int | Total) -> None:
            match message:
                case int():
                    self.total += message
                case Total(reply):
                    reply.set(self.total)

    async def main() -> None:
        async with open_supervisor() as supervisor:
            counter = await supervisor.start(Counter, name="counter")
            counter.tell_nowait(3)
            await counter.tell(4)
            print(await counter.ask(Total))  # 7

    trio.run(main)
"""

from actors.actor import Actor, Context
from actors.errors import (
    ActorError,
    ActorFailedError,
    ActorStoppedError,
    EscalatedError,
    MailboxFullError,
)
from actors.mailbox import Batch, Mailbox, MailboxStatistics
from actors.ref import Ref, RefStatistics
from actors.registry import Registry, RegistryStatistics
from actors.reply import Reply
from actors.restarts import RestartPolicy
from actors.supervisor import Failure, Supervisor, SupervisorStatistics, open_supervisor

__all__ = [
    "Actor",
    "ActorError",
    "ActorFailedError",
    "ActorStoppedError",
    "Batch",
    "Context",
    "EscalatedError",
    "Failure",
    "Mailbox",
    "MailboxFullError",
    "MailboxStatistics",
    "Ref",
    "RefStatistics",
    "Registry",
    "RegistryStatistics",
    "Reply",
    "RestartPolicy",
    "Supervisor",
    "SupervisorStatistics",
    "open_supervisor",
]
