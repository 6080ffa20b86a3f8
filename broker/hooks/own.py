"""Hooks of a program with rooms inside: async Python callables instead of addresses."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal

import attrs

from broker.errors import NotPortable
from broker.hooks.ask import Ask, HookKind, encode_ask
from broker.hooks.gate import HookFailedError, Send
from broker.portable_json import encode

Decide = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""Gets the question that an address would be posted, and returns the answer, both as a mapping."""


def _kinds(names: Sequence[str]) -> tuple[HookKind, ...]:
    return tuple(map(HookKind, names))


@attrs.frozen
class Hook:
    """A decision of the program itself; the fields are those of `[[hooks]]`.

    `decide` is called in the event loop, so it must not block; what it raises counts as no answer, and is logged. It is
    cancelled at the end of the time limit, and when the client is gone.
    """

    decide: Decide
    on: Sequence[HookKind] = attrs.field(converter=_kinds)
    rooms: Sequence[str] = ("*",)
    timeout_seconds: float = 2.0
    concurrency: int = 16
    queue: int = 256
    headers: Sequence[str] = ()
    cookies: Sequence[str] = ()
    when_away: Literal["refuse", "allow"] = "refuse"


def make_send(hook: Hook, *, most_bytes: int) -> Send:
    """Return what asks a hook of the program; an answer has `most_bytes` of JSON at most."""
    headers = frozenset(name.lower() for name in hook.headers)
    cookies = frozenset(hook.cookies)

    async def send(ask: Ask) -> bytes:
        question = json.loads(encode_ask(ask, headers=headers, cookies=cookies))
        try:
            answer = encode(await hook.decide(question))
        except NotPortable as error:
            raise HookFailedError(f"wrong answer: {error.message}") from None
        except Exception as error:  # whatever the program raises concerns this question alone
            raise HookFailedError(f"{type(error).__name__}: {error}") from error
        if len(answer) > most_bytes:
            raise HookFailedError(f"its answer is larger than {most_bytes} bytes")
        return answer

    return send
