"""The command itself: its help, its version, its exit statuses, and what it does not import."""

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner, Result

from broker.cli import main
from broker.cli.lazy import LazyGroup
from broker.errors import EngineUnavailableError, GreenroomError
from tests.support.patience import PATIENCE_SECONDS


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def process(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
        env={"LANG": "C.UTF-8"},
    )


def test_the_help_lists_every_command() -> None:
    result = run("--help")
    assert result.exit_code == 0
    for line in (
        "serve   Run the server.",
        "token   Print a client token.",
        "config  Check or show the configuration.",
    ):
        assert " ".join(line.split()) in " ".join(result.stdout.split())


def test_the_commands_have_one_order_everywhere() -> None:
    assert main.list_commands(click.Context(main)) == [
        "serve",
        "token",
        "config",
        "send",
        "tail",
        "top",
        "rooms",
        "explain",
        "webhooks",
        "backup",
        "restore",
        "conformance",
    ]


def test_the_version_is_told() -> None:
    result = run("--version")
    assert result.exit_code == 0
    assert result.stdout.startswith("greenroom ")


def test_an_unknown_command_is_a_usage_error() -> None:
    result = run("srve")
    assert result.exit_code == 2
    assert "No such command 'srve'" in result.stderr


def test_an_error_of_ours_that_is_no_configuration_error_ends_with_1() -> None:
    @click.command("fail")
    def fail() -> None:
        raise EngineUnavailableError("the engine is away")

    class Group(LazyGroup):
        def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command:
            return fail

    result = CliRunner().invoke(Group(name="greenroom", lazy={"fail": "Fail."}), ["fail"])
    assert issubclass(EngineUnavailableError, GreenroomError)
    assert (result.exit_code, result.stderr) == (1, "greenroom: the engine is away\n")


def test_python_m_broker_is_the_command() -> None:
    done = process("-m", "broker", "config", "check", "/nowhere/at.toml")
    assert done.returncode == 2
    assert done.stderr == "greenroom: /nowhere/at.toml: cannot be read: No such file or directory\n"
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("command", "heavy"),
    [
        ("", ["quart", "hypercorn", "trio", "rich", "jwt", "cryptography", "msgspec"]),
        ("token", ["quart", "hypercorn", "trio", "rich", "jwt", "cryptography"]),
        (
            "serve",
            ["quart", "hypercorn", "asyncio", "rich", "trio_websocket", "wsproto", "jwt", "cryptography"],
        ),
        ("config", ["quart", "hypercorn", "rich", "jwt", "cryptography"]),
    ],
)
def test_commands_import_no_more_than_they_begin_with(command: str, heavy: list[str]) -> None:
    # Each of these takes longer to import than such a command takes to run.
    program = (
        "import sys; from broker.cli import main\n"
        f"main([*{command!r}.split(), '--help'], standalone_mode=False)\n"
        f"print([name for name in {heavy} if name in sys.modules], file=sys.stderr)"
    )
    done = process("-c", program)
    assert done.stderr == "[]\n"
    assert "Usage:" in done.stdout
