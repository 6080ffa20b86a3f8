"""The parent of the workers: starts them, restarts those that fail, and stops them together."""

import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from random import Random, SystemRandom

import attrs
import trio

from broker.errors import ConfigurationError, GreenroomError, StoppedAtOnceError
from broker.log import Log
from broker.service_manager import NO_MANAGER, READY, STOPPING, ServiceManager
from broker.workers.heartbeat import Silence, interval_seconds
from broker.workers.restarts import Restarts

AT_ONCE_SECONDS = 2.0
"""How long workers may take to end after a second signal."""

CONFIGURATION_STATUS = 2

SERVING = b"serving"
"""The line that a worker writes once it serves."""


class WorkerError(GreenroomError):
    """A worker could not be started, or did not stop as it should."""


@attrs.define(eq=False)
class _Worker:
    """One of the workers, over all of its processes."""

    index: int
    restarts: Restarts
    process: trio.Process | None = None
    serves: bool = False
    """Whether its present process serves."""
    is_hung_up: bool = False
    """Whether it is to reload once it serves."""
    was_ready: bool = False
    """Whether one of its processes has ever served."""


class Supervisor:
    """Keeps workers running; `run` does all of it.

    A worker is a process that writes the line `serving` to its standard output once it serves, and other lines again
    and again as heartbeats; it drains on SIGTERM, stops at once on a second one, and drains when its standard input
    ends, which is when this process is gone. A blocked one is killed. It is in a process group of its own, so
    that an interrupt at the terminal reaches this process only.
    """

    def __init__(
        self,
        command: Callable[[int], Sequence[str]],
        count: int,
        *,
        environ: Mapping[str, str],
        log: Log,
        stop_seconds: float,
        silence_seconds: float,
        on_serving: Callable[[], None],
        manager: ServiceManager = NO_MANAGER,
        random: Random | None = None,
    ) -> None:
        """`command` gives the arguments of worker 0, 1, …; workers that drain longer than `stop_seconds` are killed.

        So are those that have written nothing for `silence_seconds`. `on_serving` is called once, when all
        workers serve; `manager` is told so, too.
        """
        self._command = command
        self._environ = environ
        self._log = log
        self._stop_seconds = stop_seconds
        self._silence_seconds = silence_seconds
        self._on_serving = on_serving
        self._manager = manager
        random = random or SystemRandom()
        self._workers = [_Worker(index, Restarts(random)) for index in range(count)]
        self._stopping = trio.Event()
        self._failure: GreenroomError | None = None

    async def run(self) -> None:
        """Run until SIGTERM or SIGINT, and then until all workers have drained; if cancelled, they are killed.

        SIGHUP is passed on to the workers, and ends nothing.

        :raises ConfigurationError: if a worker could not start, as configured.
        :raises WorkerError: if a worker could not start or stop.
        :raises StoppedAtOnceError: if a second signal cut the drain short.
        """
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._handle_signals, signals)
                nursery.start_soon(self._stop_all)
                nursery.start_soon(self._manager.run_heartbeat)
                async with trio.open_nursery() as keeping:
                    for worker in self._workers:
                        keeping.start_soon(self._keep, worker)
                nursery.cancel_scope.cancel()
        if self._failure is not None:
            raise self._failure
        self._log.info("workers stopped")

    async def _handle_signals(self, signals: AsyncIterator[int]) -> None:
        await self._wait_stop_signal(signals)
        self._stopping.set()
        await self._wait_stop_signal(signals)
        self._fail(StoppedAtOnceError("stopped at once by a second signal"))
        self._signal_all(signal.SIGTERM)
        await trio.sleep(AT_ONCE_SECONDS)
        self._signal_all(signal.SIGKILL)

    async def _wait_stop_signal(self, signals: AsyncIterator[int]) -> None:
        while await anext(signals) == signal.SIGHUP:
            self._log.info("hangup passed on", effect="each worker reads the configuration again")
            for worker in self._workers:
                self._hang_up(worker)

    def _hang_up(self, worker: _Worker) -> None:
        """Let a worker reload; one that does not serve yet may have no handler, and is told later."""
        worker.is_hung_up = not worker.serves
        if worker.serves and worker.process is not None:
            worker.process.send_signal(signal.SIGHUP)

    async def _stop_all(self) -> None:
        await self._stopping.wait()
        self._log.info("stopping workers")
        self._manager.notify_nowait(STOPPING)
        self._signal_all(signal.SIGTERM)
        await trio.sleep(self._stop_seconds)
        self._signal_all(signal.SIGKILL)

    def _signal_all(self, number: signal.Signals) -> None:
        for worker in self._workers:
            if worker.process is not None:
                worker.process.send_signal(number)
                # A process stopped by SIGSTOP handles no other signal.
                worker.process.send_signal(signal.SIGCONT)

    async def _keep(self, worker: _Worker) -> None:
        while not self._stopping.is_set():
            started = trio.current_time()
            status = await self._run_once(worker)
            if self._stopping.is_set():
                self._check_stopped(worker, status)
                return
            if not worker.was_ready:
                self._give_up(worker, status)
                return
            delay_seconds = worker.restarts.ended(trio.current_time() - started)
            self._log.error(
                "worker ended", worker=worker.index, status=status, again_in_seconds=round(delay_seconds, 1)
            )
            with trio.move_on_after(delay_seconds):
                await self._stopping.wait()

    async def _run_once(self, worker: _Worker) -> int:
        process = await trio.lowlevel.open_process(
            list(self._command(worker.index)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=dict(self._environ),
            process_group=0,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        worker.process = process
        try:
            if self._stopping.is_set():
                process.terminate()
            async with trio.open_nursery() as nursery:
                silence = Silence(self._silence_seconds)
                nursery.start_soon(self._read, worker, process.stdout, silence)
                nursery.start_soon(self._watch, worker, process, silence)
                status = await process.wait()
                nursery.cancel_scope.cancel()
            return status
        finally:
            worker.process = None
            worker.serves = worker.is_hung_up = False
            process.kill()
            with trio.CancelScope(shield=True, deadline=trio.current_time() + AT_ONCE_SECONDS):
                await process.wait()
            await trio.aclose_forcefully(process.stdin)
            await trio.aclose_forcefully(process.stdout)

    async def _read(self, worker: _Worker, stdout: trio.abc.ReceiveStream, silence: Silence) -> None:
        unread = b""
        async for received in stdout:
            silence.reset()
            *lines, unread = (unread + received).split(b"\n")
            if SERVING in lines:
                worker.serves = True
                if worker.is_hung_up:
                    self._hang_up(worker)
            if SERVING in lines and not worker.was_ready:
                worker.was_ready = True
                if all(other.was_ready for other in self._workers):
                    self._manager.notify_nowait(READY)
                    self._on_serving()

    async def _watch(self, worker: _Worker, process: trio.Process, silence: Silence) -> None:
        """Kill a blocked worker; it is started again as any that has ended."""
        checked_at = trio.current_time()
        while not silence.is_too_long:
            await trio.sleep(interval_seconds(self._silence_seconds))
            silence.add(trio.current_time() - checked_at)
            checked_at = trio.current_time()
        silent_seconds = round(silence.silent_seconds, 1)
        self._log.error("worker stands still", worker=worker.index, silent_seconds=silent_seconds)
        process.kill()

    def _check_stopped(self, worker: _Worker, status: int) -> None:
        # A worker that has no signal handlers yet is ended by the signal.
        if status != 0 and not (status == -signal.SIGTERM and not worker.was_ready):
            self._fail(WorkerError(f"worker {worker.index} ended with status {status}"))

    def _give_up(self, worker: _Worker, status: int) -> None:
        """Stop all, because one has never served: a restart would not help."""
        told = f"worker {worker.index} could not start (status {status})"
        self._fail(ConfigurationError(told) if status == CONFIGURATION_STATUS else WorkerError(told))
        self._stopping.set()

    def _fail(self, error: GreenroomError) -> None:
        if self._failure is None:
            self._failure = error
