"""The reload of a running server's configuration on SIGHUP."""

from collections.abc import Callable

import attrs
import trio

from broker.config.settings import Settings
from broker.errors import ConfigurationError
from broker.log import Log
from broker.log.structured import set_level
from broker.server import Broker


@attrs.define(eq=False)
class Hangups:
    """Reloads once for the signals that came while the last reload was under way; no failure of a reload ends anything."""

    log: Log
    read: Callable[[], Settings] | None
    """Reads the configuration, blocking; None if there is none to read again."""
    levelled_log: Log | None = None
    """The log whose level is a setting."""
    _came: trio.Event = attrs.Factory(trio.Event)

    def note(self) -> None:
        """Note one signal, also before `run`."""
        if self.read is None:
            self.log.info("hangup ignored", reason="this program has no configuration to read again")
        self._came.set()

    async def run(self, broker: Broker) -> None:
        """Reload for each signal, until cancelled."""
        while True:
            await self._came.wait()
            self._came = trio.Event()
            if self.read is not None:
                await self._reload(broker, self.read)

    async def _reload(self, broker: Broker, read: Callable[[], Settings]) -> None:
        try:
            # In a thread, as a file may be on a file system that stands still; a drain does not wait for it.
            settings = await trio.to_thread.run_sync(read, abandon_on_cancel=True)
            plan = broker.reload(settings)
        except ConfigurationError as error:
            self.log.warning("configuration not reloaded", problems=str(error).splitlines())
            return
        except Exception as error:  # a signal must not end the server
            self.log.exception("configuration not reloaded", exc_info=error)
            return
        if self.levelled_log is not None:
            set_level(self.levelled_log, plan.settings.log.level)
        self.log.info("configuration reloaded", changed=plan.reloaded)
        if plan.needs_restart:
            self.log.warning("configuration needs a restart", changed=plan.needs_restart)
