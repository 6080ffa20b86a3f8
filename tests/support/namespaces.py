"""Network namespaces of Linux: programs that reach each other over links which lose, hold up or swallow packets.

Nothing of the machine's own network is touched: all links are between namespaces that end with this process.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import attrs

PROGRAMS = ("unshare", "nsenter", "ip", "tc", "iptables")
LOSS = 0.1


@attrs.frozen
class Namespace:
    """A network namespace, which a process that sleeps holds."""

    pid: int

    def inside(self, *command: str) -> list[str]:
        """Return the command that runs another one inside."""
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net", *command]

    def run(self, *command: str) -> bool:
        """Run a command to its end; returns whether it succeeded."""
        return subprocess.run(self.inside(*command), capture_output=True, check=False).returncode == 0

    def must(self, *command: str) -> None:
        """Run a command that succeeds."""
        subprocess.run(self.inside(*command), capture_output=True, check=True)


@attrs.frozen
class Link:
    """The link between the hub and a node, as the hub sees it: each way is packets that come in, or go out."""

    hub: Namespace
    node: Namespace
    name: str
    hub_address: str

    def partition(self) -> None:
        """Swallow all packets in both directions: neither side is told anything."""
        self._drop()

    def lose(self) -> None:
        """Swallow a tenth of the packets in each direction."""
        self._drop("-m", "statistic", "--mode", "random", "--probability", str(LOSS))

    def hold_up(self) -> None:
        """Hold packets to the node up, by netem where the kernel has it, else by a narrow link."""
        narrow = ("tbf", "rate", "1mbit", "burst", "10kb", "latency", "2s")
        for discipline in (("netem", "delay", "40ms", "20ms"), narrow):
            if self.hub.run("tc", "qdisc", "replace", "dev", self.name, "root", *discipline):
                return
        raise AssertionError("neither netem nor tbf")

    def heal(self) -> None:
        """Let everything pass."""
        for chain in (f"in-{self.name}", f"out-{self.name}"):
            self.hub.must("iptables", "--wait", "-F", chain)
        self.hub.run("tc", "qdisc", "del", "dev", self.name, "root")

    def _drop(self, *match: str) -> None:
        for chain in (f"in-{self.name}", f"out-{self.name}"):
            self.hub.must("iptables", "--wait", "-A", chain, *match, "-j", "DROP")


def missing() -> str | None:
    """Return why there are no namespaces here; None if there are."""
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    if absent:
        return f"{', '.join(absent)}: not installed"
    if os.geteuid():
        return "only root may make network namespaces"
    try:
        with star(["try"]) as (_, (link,)):
            link.lose()
            link.hold_up()
            link.heal()
    except (AssertionError, OSError, subprocess.SubprocessError) as error:
        return f"no network namespaces here: {error}"
    return None


@contextmanager
def star(names: Sequence[str]) -> Iterator[tuple[Namespace, list[Link]]]:
    """Make a hub and a namespace for each name, linked with the hub alone."""
    with ExitStack() as stack:
        hub = stack.enter_context(_namespace())
        links = []
        for number, name in enumerate(names, 1):
            node = stack.enter_context(_namespace())
            hub.must("ip", "link", "add", name, "type", "veth", "peer", "name", "uplink")
            hub.must("ip", "link", "set", "dev", "uplink", "netns", str(node.pid))
            ends = ((hub, name, f"10.77.{number}.1"), (node, "uplink", f"10.77.{number}.2"))
            for namespace, device, address in ends:
                namespace.must("ip", "addr", "add", f"{address}/24", "dev", device)
                namespace.must("ip", "link", "set", "dev", device, "up")
            for table, direction in (("INPUT", "in"), ("OUTPUT", "out")):
                hub.must("iptables", "--wait", "-N", f"{direction}-{name}")
                hub.must(
                    "iptables", "--wait", "-A", table, f"-{direction[0]}", name, "-j", f"{direction}-{name}"
                )
            links.append(Link(hub, node, name, ends[0][2]))
        yield hub, links


@contextmanager
def _namespace() -> Iterator[Namespace]:
    process = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "echo; exec sleep infinity"], stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise OSError("unshare --net failed")
        namespace = Namespace(process.pid)
        namespace.must("ip", "link", "set", "dev", "lo", "up")
        yield namespace
    finally:
        process.kill()
        process.communicate()
