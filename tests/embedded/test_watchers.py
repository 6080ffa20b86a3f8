"""The examples that watch a server from the terminal, each started by its command in `examples/README.md`."""

import re
import subprocess

import trio

from broker import connect
from tests.support.programs import COMMANDS, EXAMPLES, read_until, run
from tests.support.secrets import API_KEY, SECRET


async def shows(process: subprocess.Popen[bytes], text: str) -> None:
    """Wait until the process has written the text, in whole lines and nothing before it."""
    lines = re.compile(rb"\A" + re.escape(text.encode()) + rb"\n\Z")
    await trio.to_thread.run_sync(read_until, process, lines)


async def test_the_last_50_then_live_the_members_and_who_is_online(serve) -> None:
    async with serve() as served:
        environ = {"GREENROOM_URL": served.url, "GREENROOM_SECRET": SECRET, "GREENROOM_API_KEY": API_KEY}

        def start(name: str, *arguments: str):
            return run(" ".join(["exec", COMMANDS[name], *arguments]), EXAMPLES, **environ)

        async with connect(served.url, token=served.token("ann")) as client, client.join("lobby") as room:
            for number in range(1, 52):
                await room.chat(f"{number}")
            with start("online") as everyone, start("online", "ann") as ann, start("online", "bob") as bob:
                await shows(everyone, "ann")
                await shows(ann, "online")
                await shows(bob, "away")
            with start("last_50") as last_50, start("members") as members:
                await shows(last_50, "\n".join(f"ann: {number}" for number in range(2, 52)))
                await room.chat("live")
                await shows(last_50, "ann: live")
                await shows(members, "ann")
                async with connect(served.url, token=served.token("bob")) as other, other.join("lobby"):
                    await shows(members, "ann, bob")
                await shows(members, "ann")
