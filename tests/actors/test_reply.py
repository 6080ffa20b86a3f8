"""A reply is settled once, and heard by whoever waits."""

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from actors import Reply


async def test_a_reply_wakes_all_waiters() -> None:
    reply: Reply[str] = Reply()
    heard: list[str] = []

    async def listen() -> None:
        heard.append(await reply.wait())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        nursery.start_soon(listen)
        await wait_all_tasks_blocked()
        assert not reply.is_settled
        assert reply.set("yes")
    assert heard == ["yes", "yes"]
    with assert_checkpoints():
        assert await reply.wait() == "yes"


async def test_an_error_is_raised_where_it_is_waited_for() -> None:
    reply: Reply[str] = Reply()
    assert reply.fail(LookupError("no such thing"))
    assert reply.is_settled
    with pytest.raises(LookupError, match="no such thing"):
        await reply.wait()


async def test_none_is_an_answer() -> None:
    reply: Reply[str | None] = Reply()
    reply.set(None)
    assert await reply.wait() is None


async def test_the_first_settlement_counts() -> None:
    answered: Reply[int] = Reply()
    assert answered.set(1)
    assert not answered.set(2)
    assert not answered.fail(ValueError())
    assert await answered.wait() == 1

    failed: Reply[int] = Reply()
    assert failed.fail(ValueError("first"))
    assert not failed.fail(ValueError("second"))
    assert not failed.set(3)
    with pytest.raises(ValueError, match="first"):
        await failed.wait()


async def test_an_answer_that_nobody_waits_for_any_more_is_no_error() -> None:
    reply: Reply[int] = Reply()
    with trio.CancelScope() as scope:
        scope.cancel()
        await reply.wait()
    assert scope.cancelled_caught
    assert reply.set(1)
