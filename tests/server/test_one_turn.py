"""A message in a quiet small room waits for one turn of the scheduler: the pump's own, and then the flusher's."""

import trio

MINE = ("Pump.run", "Flusher.run", "_run_child")
"""Tasks that could have a part in a message: the last is a room's."""


class Steps(trio.abc.Instrument):
    """Writes down which of these tasks took a step, and where a turn of the scheduler ended."""

    def __init__(self) -> None:
        self.taken: list[str] = []

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.taken += [name for name in MINE if name in str(task.coro.__qualname__)]

    def before_io_wait(self, timeout: float) -> None:
        self.taken.append("end of turn")


async def test_a_message_waits_for_one_turn_of_the_scheduler(serve):
    async with (
        serve() as served,
        served.connect("/ws/den", "ann") as ann,
        served.connect("/ws/den", "bob") as bob,
    ):
        for client in (ann, bob):
            while (await client.receive("user_joined"))["user_id"] != "bob":
                pass
        steps = Steps()
        trio.lowlevel.add_instrument(steps)
        await ann.send(type="chat", text="hello")
        assert (await bob.receive())["text"] == "hello"
        trio.lowlevel.remove_instrument(steps)
    taken = steps.taken[steps.taken.index("Pump.run") :]
    assert taken[:3] == ["Pump.run", "end of turn", "Flusher.run"]
