"""`greenroom conformance`: plays a server that a client under test must survive."""

import os
from functools import partial

import click
import trio

from broker.cli.durations import Duration
from broker.cli.lazy import TextCommand
from broker.cli.printing import json_line, print_line
from broker.cli.remote import run_remote
from broker.conformance.cases import CASES, Case
from broker.conformance.command import Command, environment_of
from broker.conformance.report import as_fields, explain, prompt_of, row_of
from broker.conformance.run import Client, Limits, Result, run_cases
from broker.conformance.stage import Stage


@click.command("conformance", cls=TextCommand)
@click.option(
    "--port",
    type=click.IntRange(1, 65_535),
    help="Port on 127.0.0.1; one case then runs after the other. None: a free one for each case.",
)
@click.option(
    "--only",
    "names",
    multiple=True,
    type=click.Choice([case.name for case in CASES]),
    metavar="NAME",
    help="A case to run; may be repeated. None: all.",
)
@click.option(
    "--timeout",
    "timeout_seconds",
    type=Duration(),
    default="30s",
    show_default=True,
    metavar="DURATION",
    help="How long a step waits for the client.",
)
@click.option(
    "--silence",
    "silence_seconds",
    type=Duration(),
    default="70s",
    show_default=True,
    metavar="DURATION",
    help="How long the client may take to leave a silent server (GREENROOM_SILENCE_SECONDS for it).",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="How many cases run at once.",
)
@click.option("--json", "is_json", is_flag=True, help="Print the report as one JSON object.")
@click.argument("arguments", nargs=-1, metavar="[-- COMMAND ...]")
def command(
    *,
    port: int | None,
    names: tuple[str, ...],
    timeout_seconds: float,
    silence_seconds: float,
    jobs: int,
    is_json: bool,
    arguments: tuple[str, ...],
) -> None:
    """Play a server that drops, drains, refuses and falls silent, and report whether a client survives it.

    COMMAND is the client under test. It is started for each case with GREENROOM_URL, GREENROOM_TOKEN,
    GREENROOM_TOKEN_URL and GREENROOM_ROOM, and prints a JSON line for each thing that its application is told;
    docs/conformance.md has the lines and the cases. Without COMMAND, start the client by hand for each case, and let
    it post its lines to GREENROOM_URL/lines. Exit status: 0 if all cases have passed, else 1.
    """
    cases = [case for case in CASES if not names or case.name in names]
    client: Client = Command(arguments, os.environ) if arguments else _prompt
    is_parallel = bool(arguments) and port is None
    limits = Limits(timeout_seconds, silence_seconds, jobs if is_parallel else 1, port or 0)
    run_remote(partial(_run, cases, client, limits, is_json=is_json))


async def _run(cases: list[Case], client: Client, limits: Limits, *, is_json: bool) -> int:
    async def show(result: Result) -> None:
        if not is_json:
            await print_line(row_of(result))

    results = await run_cases(cases, client, limits, show)
    await print_line(json_line(as_fields(results)) if is_json else f"\n{explain(results)}")
    return 1 if any(result.failure is not None for result in results) else 0


async def _prompt(stage: Stage, case: Case, url: str) -> None:
    """Leave the client to a person."""
    click.echo(prompt_of(case, environment_of(stage, case, url)), err=True)
    await trio.sleep_forever()
