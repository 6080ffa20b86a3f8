"""Serves connections of our port with ASGI applications."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.typing import ASGIFramework, LifespanState
from quart_trio import QuartTrio

from broker.config.settings import HttpSettings
from broker.errors import RefusalReason
from broker.http.hosting.beside import SideBySide
from broker.http.hosting.fast_path import FastPathOptions, PostFastPath, ServerFields
from broker.http.hosting.guard import AbortScope, Guard
from broker.http.hosting.http1 import Http1Server, Worker, make_config
from broker.http.hosting.lifespan import open_lifespan
from broker.http.hosting.resets import ResetWatch, open_reset_watch
from broker.http.hosting.stream import HttpStream, HttpTransport
from broker.http.plain_post import PostAnswers
from broker.log import Log
from broker.refusals import Refusals


class HttpServer:
    """Serves connections with an application; made by `open_http`."""

    def __init__(
        self,
        app: ASGIFramework,
        config: Config,
        worker: Worker,
        state: LifespanState,
        *,
        settings: HttpSettings,
        refusals: Refusals,
        posts: PostAnswers | None,
        resets: ResetWatch,
        needs_client_certificate: bool,
    ) -> None:
        self._resets = resets
        self._needs_client_certificate = needs_client_certificate
        self._app = app
        self._config = config
        self._state = state
        self._write_seconds = settings.request_seconds
        self._refusals = refusals
        self._worker = worker
        self._abort_scopes: set[AbortScope] = set()
        self._fast_paths: set[PostFastPath] = set()
        self._options = None if posts is None else self._make_options(posts, settings)

    def _make_options(self, posts: PostAnswers, settings: HttpSettings) -> FastPathOptions:
        return FastPathOptions(
            posts,
            ServerFields(self._config),
            head_bytes=settings.head_bytes,
            request_seconds=settings.request_seconds,
            keep_alive_seconds=settings.keep_alive_seconds,
            is_stopping=self._is_stopping,
            resets=self._resets,
        )

    def __len__(self) -> int:
        """How many connections are being served."""
        return len(self._abort_scopes)

    async def serve(self, stream: HttpTransport) -> None:
        """Serve one connection to its end, and close it; its failures are logged, not raised.

        If cancelled, it is closed at once, after a write under way has ended, which may take `http.request_seconds`:
        call `abort` to be quicker.
        """
        abort_scope = AbortScope(stream.abort)
        self._abort_scopes.add(abort_scope)
        careful = HttpStream(stream, write_seconds=self._write_seconds, on_broken=abort_scope.abort)
        try:
            with abort_scope.scope:
                await self._serve(stream, careful, abort_scope)
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            # The client is gone.
            pass
        except* Exception as failures:  # noqa: BLE001  # nothing of one connection may reach another
            self._refusals.log_failure("connection failed", None, failures)
        finally:
            self._abort_scopes.discard(abort_scope)
            stream.abort()

    async def _serve(self, stream: HttpTransport, careful: HttpStream, abort_scope: AbortScope) -> None:
        """Let the fast path and hypercorn take turns, until one of them has closed the connection."""
        is_refused = self._needs_client_certificate and not stream.has_client_certificate
        if self._options is None or is_refused:
            # The gate refuses posts without a certificate, and nothing else does.
            await self._make_http1(stream, careful, abort_scope, None).run()
            return
        fast_path = PostFastPath(self._options, stream, careful)
        self._fast_paths.add(fast_path)
        try:
            while await fast_path.serve():
                http1 = self._make_http1(stream, careful, abort_scope, fast_path)
                await http1.run()
                if not http1.is_left_to_fast_path:
                    return
        finally:
            self._fast_paths.discard(fast_path)

    def _make_http1(
        self,
        stream: HttpTransport,
        careful: HttpStream,
        abort_scope: AbortScope,
        fast_path: PostFastPath | None,
    ) -> Http1Server:
        # A send may be more than one write.
        guard = Guard(
            self._app,
            abort_scope,
            self._refusals,
            2 * self._write_seconds,
            self._is_stopping,
            has_client_certificate=self._needs_client_certificate and stream.has_client_certificate,
        )
        return Http1Server(
            ASGIWrapper(guard),
            self._config,
            self._worker,
            self._state,
            stream=careful,
            transport=stream,
            abort_scope=abort_scope,
            fast_path=fast_path,
        )

    def begin_stop(self) -> None:
        """Close idle connections, and the others when they have answered (`Connection: close`)."""
        self._worker.stop_sign.set_nowait()
        for fast_path in self._fast_paths:
            fast_path.begin_stop()

    def abort(self) -> None:
        """Close all connections at once, also those whose peers do not read."""
        for abort_scope in list(self._abort_scopes):
            abort_scope.abort()

    def _is_stopping(self) -> bool:
        return self._worker.stop_sign.is_set()


@asynccontextmanager
async def open_http(
    app: QuartTrio,
    settings: HttpSettings,
    log: Log,
    *,
    beside: ASGIFramework | None = None,
    refusals: Refusals | None = None,
    posts: PostAnswers | None = None,
    needs_client_certificate: bool = False,
) -> AsyncIterator[HttpServer]:
    """Start the application, and stop it when the block is left; no connection may be served any more then.

    `beside` is another ASGI application, which gets every request but those for paths that `app` has routes
    for; `/` is the other's too. `posts` answers plain posts as `app` does, in the fast path;
    with `needs_client_certificate` those of clients that have one.
    An exception of the block is raised in an ExceptionGroup, as by a nursery.

    :raises ApplicationError: (in an ExceptionGroup) if one of the two does not start.
    """
    config = make_config(settings, log)
    refusals = refusals or Refusals(log)
    async with AsyncExitStack() as stack:
        state = await stack.enter_async_context(open_lifespan(app, config, log))
        served: ASGIFramework = app
        on_bad_request = partial(_note_bad_request, refusals)
        worker = Worker(lambda _path: False, on_bad_request)
        if beside is not None:
            state = await stack.enter_async_context(open_lifespan(beside, config, log))
            served = both = SideBySide(app, beside)
            worker = Worker(lambda path: not both.is_own_path(path), on_bad_request)
        resets = await stack.enter_async_context(open_reset_watch())
        yield HttpServer(
            served,
            config,
            worker,
            state,
            settings=settings,
            refusals=refusals,
            posts=posts,
            resets=resets,
            needs_client_certificate=needs_client_certificate,
        )


def _note_bad_request(refusals: Refusals, why: RefusalReason, address: str | None) -> None:
    # Logged like a bad first head of a connection.
    refusals.note(why, address, event="refused" if why is RefusalReason.HTTP else "bad request")
