"""A client without faults passes every case; each fault fails exactly the cases that are about it."""

from functools import partial
from typing import Any

import pytest
import trio

from broker.conformance.cases import CASES
from tests.conformance.memory import Surroundings, failed_cases
from tests.conformance.raw_client import Fault, RawClient
from tests.support.documents import validator

QUICK = tuple(case for case in CASES if case.name != "large-history")


async def run(fault: Fault, surroundings: Surroundings) -> None:
    await RawClient(surroundings, fault).run()


@pytest.mark.parametrize("is_by_address", [False, True])
async def test_a_client_without_faults_passes_every_case(
    is_by_address: bool, autojump_clock: trio.testing.MockClock
) -> None:
    received: list[dict[str, Any]] = []

    async def run(surroundings: Surroundings) -> None:
        await RawClient(surroundings, is_by_address=is_by_address, received=received).run()

    assert await failed_cases(CASES, run) == {}
    # But for the unknown messages, the kit says what a server may say.
    known = [message for message in received if message["type"] not in {"weather", "tide"}]
    kinds = {
        "joined",
        "user_joined",
        "chat",
        "ack",
        "error",
        "left",
        "gap",
        "withheld",
        "reconnect",
        "order.shipped",
    }
    assert {message["type"] for message in known} == (kinds - {"left"} if is_by_address else kinds)
    schema = validator("ServerMessage")
    assert [message for message in known if not schema.is_valid(message)] == []


FAULTS: dict[Fault, set[str]] = {
    "joins without since": {
        "silence",
        "drop",
        "no-repeats",
        "gap",
        "epoch-live",
        "epoch-return",
        "drain",
        "token-expired",
        "cut-before-ack",
        "stop",
        "reconnect-codes",
        "backoff",
        "withheld",
    },
    "never moves its position": {
        "no-repeats",
        "epoch-live",
        "cut-before-ack",
        "gap",
        "epoch-return",
        "withheld",
    },
    "hammers": {"backoff"},
    "ignores after_ms": {"drain"},
    "has no heartbeat": {"silence"},
    "dies of an unknown type": {"unknown-type", "withheld"},
    "dies of an unknown field": {"unknown-field"},
    "ignores recovered": {"gap", "epoch-return"},
    "ignores gap": {"gap-live"},
    "compares offsets of two epochs": {"epoch-live"},
    "returns after 40xx": {"token-refused", "final-code"},
    "returns after 1000": {"normal-close"},
    "leaves for good on an unknown code": {"reconnect-codes"},
    "keeps its token": {"token-expired"},
    "joins a refused room again": {"room-refused"},
    "joins again when removed": {"removed"},
    "sends again with another id": {"cut-before-ack"},
    "ignores retry_after_ms": {"rate-limited"},
    "hands over its own chat at the ack": {"chat", "event-before-ack", "rate-limited", "cut-before-ack"},
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_fails_the_cases_about_it(fault: Fault, autojump_clock: trio.testing.MockClock) -> None:
    assert set(await failed_cases(QUICK, partial(run, fault))) == FAULTS[fault]


async def test_a_client_that_loses_further_pages_fails_the_case_about_them(
    autojump_clock: trio.testing.MockClock,
) -> None:
    [case] = [case for case in CASES if case not in QUICK]
    assert list(await failed_cases((case,), partial(run, "hands over the first page only"))) == [case.name]
