"""Opens the hooks of a configuration and those of the program, with their connections."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from broker.config.settings import HookSettings, Settings
from broker.hooks.ask import HookKind
from broker.hooks.gate import Gate, GateOptions, HookLog
from broker.hooks.hooks import Hooks
from broker.hooks.own import Hook, make_send
from broker.hooks.traced import TracedHooks
from broker.model import WallClock
from broker.traces.tracer import Tracer

LEAST_ANSWER_BYTES = 65_536


@asynccontextmanager
async def open_hooks(
    settings: Settings,
    own: Sequence[Hook],
    *,
    log: HookLog,
    wall_clock: WallClock,
    tracer: Tracer | None = None,
) -> AsyncIterator[Hooks | None]:
    """Open the hooks for the block: those of the program before those of the configuration; None if there are none.

    :raises ConfigurationError: if a secret is none, or what the environment says of proxies and certificates cannot be
        used.
    """
    # The message may come back in another spelling of its characters.
    most_bytes = LEAST_ANSWER_BYTES + 6 * settings.websocket.message_bytes
    gates = [
        Gate(f"own {index}", "", _options(hook, settings), make_send(hook, most_bytes=most_bytes), log)
        for index, hook in enumerate(own)
    ]
    async with AsyncExitStack() as stack:
        for index, hook in enumerate(settings.hooks):
            # Takes a tenth of a second to import, and most servers have no hooks.
            from broker.hooks.post import make_client, make_post, shown_url  # noqa: PLC0415

            client = await stack.enter_async_context(make_client(hook))
            post = make_post(client, hook, most_bytes=most_bytes, wall_clock=wall_clock)
            gates.append(Gate(str(index), shown_url(hook.url), _options(hook, settings), post.send, log))
        if not gates:
            yield None
            return
        all_hooks: list[Hook | HookSettings] = [*own, *settings.hooks]
        headers = frozenset(name.lower() for hook in all_hooks for name in hook.headers)
        cookies = frozenset(name for hook in all_hooks for name in hook.cookies)
        if tracer is None:
            yield Hooks(gates, headers, cookies)
        else:
            yield TracedHooks(gates=gates, header_names=headers, cookie_names=cookies, tracer=tracer)


def _options(hook: Hook | HookSettings, settings: Settings) -> GateOptions:
    return GateOptions(
        frozenset(map(HookKind, hook.on)),
        hook.rooms,
        hook.timeout_seconds,
        hook.concurrency,
        hook.queue,
        hook.when_away,
        settings.auth.info_bytes,
    )
