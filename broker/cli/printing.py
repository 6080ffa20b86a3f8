"""The output of commands that run an event loop."""

import json
import sys

import msgspec
import trio


async def print_line(text: str) -> None:
    """Write a line to standard output in a thread, and wait until it is written.

    If cancelled, as by a signal while the reader is blocked, the write is abandoned.

    :raises OutputError: if it cannot be written.
    """
    await trio.to_thread.run_sync(_write, f"{text}\n", abandon_on_cancel=True)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def json_line(value: object) -> str:
    """Return `value` as JSON on one line, in characters that standard output's encoding has."""
    text = msgspec.json.encode(value).decode()
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(msgspec.json.decode(text), ensure_ascii=True, separators=(",", ":"))
    return text
