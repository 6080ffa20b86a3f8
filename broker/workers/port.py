"""One port for several processes: SO_REUSEPORT lets each listen, and the kernel deals connections out."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import msgspec
import trio

from broker.config.settings import ServerSettings
from broker.transport.listening import bind_all, listen_on


@contextmanager
def reserve_port(server: ServerSettings) -> Iterator[int]:
    """Hold the configured port without listening, so that only our workers listen on it; gives its number.

    :raises OSError: if it cannot be bound, as when another program has it.
    """
    with ExitStack() as stack:
        # With SO_REUSEPORT alone, another group of workers would share its connections with ours.
        alone = bind_all(server, shared=False)
        port: int = alone[0].getsockname()[1]
        for sock in alone:
            sock.close()
        for sock in bind_all(msgspec.structs.replace(server, port=port), shared=True):
            stack.enter_context(sock)
        yield port


def open_shared_listeners(server: ServerSettings) -> list[trio.SocketListener]:
    """Listen on the configured port beside other workers; needs a port that is reserved.

    :raises OSError: if that cannot be.
    """
    return listen_on(bind_all(server, shared=True), server.backlog)
