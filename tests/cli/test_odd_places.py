"""Every command under everything that a terminal, a pipe, a file system or an environment may do to it."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs
import pytest
from click.testing import CliRunner

from broker.cli import main
from tests.support.listening import find_port
from tests.support.patience import PATIENCE_SECONDS
from tests.support.secrets import API_KEY, SECRET
from tests.support.untraced import untraced

SECRETS = {
    "GREENROOM_SECRET": SECRET,
    "GREENROOM_API_KEY": API_KEY,
    "GREENROOM_SERVER__DRAIN_SECONDS": "0.1",
}
TEXT = "é→💩"
ENDED_BY_SIGTERM = 128 + signal.SIGTERM
READER_GONE = 128 + signal.SIGPIPE


@attrs.define
class Run:
    """A command that is to be run: a condition changes what it pleases before."""

    arguments: list[str]
    folder: Path
    environ: dict[str, str | bytes]
    stack: ExitStack
    shell: str = ""
    """What a shell does to the descriptors, such as `2>&-`."""
    options: dict[str, Any] = attrs.Factory(dict)
    terminal: int | None = None
    """The other end of the terminal that standard output is."""
    encoding: str = "utf-8"
    is_removed: bool = False


COMMANDS: dict[str, list[str]] = {
    "no command": [],
    "--help": ["--help"],
    "--version": ["--version"],
    "an unknown command": ["srve"],
    "token": ["token", "--user", "ann"],
    "token without a secret": ["token", "--user", "ann"],
    "config show": ["config", "show"],
    "config check": ["config", "check", "FILE"],
    "send": ["send", "lobby", TEXT, "--url", "URL"],
    "tail": ["tail", "lobby", "-n", "1", "--url", "URL"],
    "top": ["top", "--once", "--interval", "0.1", "--url", "URL"],
    "serve": ["serve", "--port", "0"],
    "serve --dev": ["serve", "--port", "0", "--dev"],
}
STATUS = {"an unknown command": 2, "token without a secret": 2, "no command": 2, "tail": ENDED_BY_SIGTERM}
ENDLESS = ("tail", "serve", "serve --dev")
PRINTS_NOTHING = ("an unknown command", "token without a secret", "no command", "serve", "serve --dev")
"""To standard output, or not so that it matters."""

Condition = Callable[[Run], None]


def nothing(run: Run) -> None:
    """As always."""


def closed(*descriptors: int) -> Condition:
    def change(run: Run) -> None:
        run.shell = " ".join(f"{descriptor}{'<' if not descriptor else '>'}&-" for descriptor in descriptors)

    return change


def to_full_disk(name: str) -> Condition:
    def change(run: Run) -> None:
        run.options[name] = run.stack.enter_context(Path("/dev/full").open("wb"))  # noqa: SIM115

    return change


def to_nobody(name: str) -> Condition:
    def change(run: Run) -> None:
        reading, writing = os.pipe()
        os.close(reading)
        run.stack.callback(os.close, writing)
        run.options[name] = writing

    return change


def over_file_size(run: Run) -> None:
    run.options["stdout"] = run.stack.enter_context((run.folder / "output").open("wb"))
    run.shell = "; ulimit -f 0"


def encoded(encoding: str) -> Condition:
    def change(run: Run) -> None:
        run.encoding = encoding
        run.environ["PYTHONIOENCODING"] = encoding

    return change


def on_terminal(**environ: str) -> Condition:
    def change(run: Run) -> None:
        run.terminal, theirs = pty.openpty()
        run.stack.callback(os.close, run.terminal)
        run.stack.callback(os.close, theirs)
        run.options["stdout"] = theirs
        run.environ |= environ

    return change


def plain_locale(run: Run) -> None:
    run.encoding = "ascii"
    run.environ |= {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def with_variables(**environ: str | bytes) -> Condition:
    def change(run: Run) -> None:
        run.environ |= environ

    return change


def all_of(*conditions: Condition) -> Condition:
    """Several that change different things: one run shows for each that it does no harm."""

    def change(run: Run) -> None:
        for condition in conditions:
            condition(run)

    return change


def bare(run: Run) -> None:
    for name in ("HOME", "LANG", "TERM", "USER"):
        run.environ.pop(name, None)


def removed_folder(run: Run) -> None:
    folder = run.folder / "gone"
    folder.mkdir()
    run.shell = f"; cd '{folder}' && rmdir '{folder}'"


LATIN_1 = "0 closed, and latin-1"
ASCII = "ascii, and a variable beyond UTF-8"
PLAIN_LOCALE = "a plain locale in a removed folder"

CONDITIONS: dict[str, Condition] = {
    "as always": nothing,
    LATIN_1: all_of(closed(0), encoded("latin-1")),
    "1 closed": closed(1),
    "2 closed": closed(2),
    "0, 1 and 2 closed": closed(0, 1, 2),
    "output to a full disk": to_full_disk("stdout"),
    "errors to a full disk": to_full_disk("stderr"),
    "output to nobody": to_nobody("stdout"),
    "errors to nobody": to_nobody("stderr"),
    "output over the file size": over_file_size,
    ASCII: all_of(encoded("ascii"), with_variables(OTHER=b"\xff", GREENROOM_SERVICE_HOST=b"\xff")),
    PLAIN_LOCALE: all_of(plain_locale, removed_folder),
    "a terminal": on_terminal(TERM="xterm"),
    "an unknown terminal without a size in a bare environment": all_of(
        bare, on_terminal(TERM="nonsense", COLUMNS="0", LINES="0")
    ),
    "a latin-1 terminal": on_terminal(TERM="xterm", PYTHONIOENCODING="latin-1"),
}
FAILING = {
    "1 closed": (1, "Bad file descriptor"),
    "0, 1 and 2 closed": (1, "Bad file descriptor"),
    "output to a full disk": (1, "No space left on device"),
    "output over the file size": (1, "File too large"),
    "output to nobody": (READER_GONE, ""),
}
"""Where output cannot be written: the status, and what is said of it."""
CASES = [
    pytest.param(name, condition, id=f"{name}-{condition}")
    for name in COMMANDS
    for condition in CONDITIONS
    # All that writes nothing to standard output writes nothing in the same way, so two of them are enough.
    if condition not in FAILING or name not in PRINTS_NOTHING or name in {"an unknown command", "serve --dev"}
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with something said in its lobby."""
    # `top` shows the lobby, however long after that it is.
    environ = {"PATH": os.environ["PATH"], **SECRETS, "GREENROOM_ROOM__IDLE_SECONDS": "86400"}
    command = [sys.executable, "-m", "broker", "serve", "--port", "0"]
    folder = tmp_path_factory.mktemp("server")
    with subprocess.Popen(command, env=environ, cwd=folder, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        url = json.loads(server.stderr.readline())["url"]
        try:
            send = [sys.executable, "-m", "broker", "send", "lobby", TEXT, "--url", url]
            subprocess.run(send, env=environ, check=True, stdout=subprocess.DEVNULL, timeout=PATIENCE_SECONDS)
            yield url
        finally:
            server.kill()


@attrs.frozen
class Ended:
    status: int
    out: bytes
    error: str


def prepare(name: str, condition: str, url: str, folder: Path, stack: ExitStack) -> Run:
    file = folder / "greenroom.toml"
    file.touch()
    arguments = [{"FILE": str(file), "URL": url}.get(word, word) for word in COMMANDS[name]]
    environ: dict[str, str | bytes] = {**untraced(os.environ), **SECRETS}
    if name == "token without a secret":
        del environ["GREENROOM_SECRET"]
    run = Run(arguments, folder, environ, stack)
    CONDITIONS[condition](run)
    return run


def execute(run: Run, *, is_endless: bool) -> Ended:
    redirections, _, before = run.shell.partition("; ")
    script = f'{before or ":"}\nexec "$@" {redirections}'
    process = subprocess.Popen(
        ["sh", "-c", script, "sh", str(Path(sys.executable).with_name("greenroom")), *run.arguments],
        **{
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "env": run.environ,
            "cwd": run.folder,
            **run.options,
        },
    )
    try:
        out = b""
        if is_endless:
            out = wait_busy(process, run)
            process.terminate()
        if run.terminal is not None and not is_endless:
            rest, error = b"", communicate(process)[1]
            out += read_terminal(run.terminal)
        else:
            rest, error = communicate(process)
        return Ended(process.returncode, out + rest, error.decode(errors="replace"))
    finally:
        process.kill()
        process.wait()


def communicate(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    out, error = process.communicate(timeout=PATIENCE_SECONDS)
    return out or b"", error or b""


def read_terminal(terminal: int) -> bytes:
    os.set_blocking(terminal, False)
    out = b""
    try:
        while data := os.read(terminal, 65_536):
            out += data
    except OSError:
        pass
    return out


def wait_busy(process: subprocess.Popen[bytes], run: Run) -> bytes:
    """Wait until an endless command has said something, or serves, or has ended by itself."""
    if "serve" in run.arguments:
        # Files of /proc tell nobody of their changes.
        while process.poll() is None and find_port(process.pid) is None:
            time.sleep(0.02)
        return b""
    if run.terminal is not None:
        return os.read(run.terminal, 65_536)
    assert process.stdout is not None
    return process.stdout.readline()


def is_told_well(line: str) -> bool:
    """Whether a line of the errors is a log line, one of ours, or click's on how a command is used."""
    words = ("greenroom: ", "Usage: ", "Try ", "Error: ", "{", "  ", "Options:", "Commands:", "Did you mean")
    return not line or line.startswith(words) or line == "Real-time rooms over WebSocket and HTTP."


@pytest.mark.parametrize(("name", "condition"), CASES)
def test_a_command_ends_well_in_an_odd_place(name: str, condition: str, url: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        run = prepare(name, condition, url, tmp_path, stack)
        is_endless = name in ENDLESS and (name in PRINTS_NOTHING or condition not in FAILING)
        ended = execute(run, is_endless=is_endless)
    for word in ("Traceback", "Exception ignored", "Fatal Python", "--url:", "Warning"):
        assert word not in ended.error
    assert all(is_told_well(line) for line in ended.error.splitlines()), ended.error
    status = STATUS.get(name, 0)
    if condition in FAILING and name not in PRINTS_NOTHING:
        status, why = FAILING[condition]
        expected = f"greenroom: cannot write to standard output: {why}\n" if why else ""
        if "2" not in condition:
            assert ended.error == expected
    assert ended.status == status, ended


@pytest.mark.parametrize("condition", ["as always", LATIN_1, ASCII, PLAIN_LOCALE])
def test_json_is_whole_in_every_encoding(condition: str, url: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        run = prepare("tail", condition, url, tmp_path, stack)
        ended = execute(run, is_endless=True)
    first = json.loads(ended.out.decode(run.encoding).splitlines()[0])
    assert first["text"] == TEXT


BEYOND_UTF8 = os.fsdecode(b"caf\xe9")

NOT_UTF8: dict[str, tuple[list[str], dict[str, str]]] = {
    "room of send": (["send", BEYOND_UTF8, "x"], {}),
    "text of send": (["send", "lobby", BEYOND_UTF8], {}),
    "id of send": (["send", "lobby", "x", "--id", BEYOND_UTF8], {}),
    "URL of send": (["send", "lobby", "x", "--url", BEYOND_UTF8], {}),
    "token of send": (["send", "lobby", "x", "--token", BEYOND_UTF8], {}),
    "URL in a variable": (["send", "lobby", "x"], {"GREENROOM_URL": BEYOND_UTF8}),
    "token in a variable": (["tail", "lobby"], {"GREENROOM_TOKEN": BEYOND_UTF8}),
    "secret": (["token", "--user", "ann"], {"GREENROOM_SECRET": BEYOND_UTF8}),
    "key": (["top", "--once"], {"GREENROOM_API_KEY": BEYOND_UTF8}),
    "room of tail": (["tail", BEYOND_UTF8], {}),
    "name of webhooks aside": (["webhooks", "aside", BEYOND_UTF8], {}),
    "id of webhooks repeat": (["webhooks", "repeat", "shop", BEYOND_UTF8], {}),
    "user of explain": (["explain", "--room", "lobby", "--user", BEYOND_UTF8], {}),
    "room of explain": (["explain", "--user", "ann", "--room", BEYOND_UTF8], {}),
    "URL of webhooks": (["webhooks", "--url", BEYOND_UTF8], {}),
    "prefix of top": (["top", "--prefix", BEYOND_UTF8], {}),
    "user of token": (["token", "--user", BEYOND_UTF8], {}),
    "room of token": (["token", "--user", "ann", "--room", BEYOND_UTF8], {}),
    "host of serve": (["serve", "--host", BEYOND_UTF8], {}),
    "engine of serve": (["serve", "--engine", f"sqlite:///{BEYOND_UTF8}"], {}),
    "command": ([BEYOND_UTF8], {}),
    "option": (["send", f"--{BEYOND_UTF8}"], {}),
}


def check_refused(status: int, out: bytes, error: str) -> None:
    assert status == 2
    assert out == b""
    assert "Traceback" not in error
    assert error.splitlines()[-1].startswith(("Error: ", "greenroom: "))


@pytest.mark.parametrize(("arguments", "changed"), NOT_UTF8.values(), ids=NOT_UTF8)
def test_what_is_not_utf8_is_refused_with_2(arguments: list[str], changed: dict[str, str]) -> None:
    ended = CliRunner().invoke(main, arguments, env={**SECRETS, **changed})
    check_refused(ended.exit_code, ended.stdout_bytes, ended.stderr)


@pytest.mark.parametrize("name", ["room of send", "secret"])
def test_what_is_not_utf8_is_refused_by_a_process_too(name: str, tmp_path: Path) -> None:
    """Arguments and variables of a process are bytes, which Python decodes before anything of ours runs."""
    arguments, changed = NOT_UTF8[name]
    environ = {**untraced(os.environ), **SECRETS, **changed}
    ended = execute(Run(arguments, tmp_path, environ, ExitStack()), is_endless=False)
    check_refused(ended.status, ended.out, ended.error)


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: folder,
        lambda folder: folder / "none",
        lambda folder: folder / "none" / "none",
        lambda folder: Path("/proc/self/mem"),
        lambda folder: folder / ("x" * 300),
        lambda folder: folder / BEYOND_UTF8,
        lambda folder: Path(os.devnull) / "x",
    ],
    ids=["folder", "none", "none in none", "memory", "long", "beyond UTF-8", "below a device"],
)
@pytest.mark.parametrize(
    "command", ["serve", "token", "config show", "config check", "send", "top", "explain", "webhooks"]
)
def test_a_configuration_that_cannot_be_read_is_one_line_and_2(
    command: str, make: Callable[[Path], Path], tmp_path: Path
) -> None:
    file = make(tmp_path)
    words = {
        "explain": ["--user", "a", "--room", "b"],
        "token": ["--user", "a"],
        "send": ["lobby", "x"],
        "config check": [str(file)],
    }.get(command, [])
    environ = {**SECRETS, "GREENROOM_CONFIG": str(file)}
    ended = CliRunner().invoke(main, [*command.split(), *words], env=environ)
    assert ended.exit_code == 2
    [line] = ended.stderr.splitlines()
    assert line.startswith("greenroom: ")
    assert ": cannot be read: " in line
