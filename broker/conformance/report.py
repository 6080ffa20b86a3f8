"""The report of a run: text for people, one JSON object for programs. Pure."""

from collections.abc import Sequence

from broker.conformance.cases import Case
from broker.conformance.run import Result

NAME_CHARACTERS = 18


def row_of(result: Result) -> str:
    """Return the line of a case."""
    outcome = "passed" if result.failure is None else "FAILED"
    return f"{outcome}  {result.case.name:{NAME_CHARACTERS}}{result.seconds:6.1f} s"


def explain(results: Sequence[Result]) -> str:
    """Return the reasons of all failures, and the totals."""
    failed = [result for result in results if result.failure is not None]
    passed = len(results) - len(failed)
    parts = [_explain(result) for result in failed]
    return "\n\n".join([*parts, f"{passed} of {len(results)} cases passed"])


def as_fields(results: Sequence[Result]) -> dict[str, object]:
    """Return the report as the fields of one JSON object."""
    failed = sum(result.failure is not None for result in results)
    passed = len(results) - failed
    return {"passed": passed, "failed": failed, "cases": [_fields(result) for result in results]}


def _explain(result: Result) -> str:
    failure = result.failure
    assert failure is not None
    lines = [
        f"{result.case.name}: {result.case.rule}",
        f"  expected  {failure.expected}",
        f"  came      {failure.came}",
        "  transcript, the last entries:",
        *(f"    {entry}" for entry in failure.transcript),
    ]
    return "\n".join(lines)


def _fields(result: Result) -> dict[str, object]:
    fields: dict[str, object] = {
        "name": result.case.name,
        "rule": result.case.rule,
        "passed": result.failure is None,
        "seconds": round(result.seconds, 3),
    }
    if result.failure is not None:
        fields |= {
            "expected": result.failure.expected,
            "came": result.failure.came,
            "transcript": result.failure.transcript,
        }
    return fields


def prompt_of(case: Case, environ: dict[str, str]) -> str:
    """Return what to tell a person who starts the client by hand."""
    lines = [f"  {name}={value}" for name, value in environ.items()]
    return "\n".join([f"case {case.name}: start the client with", *lines])
