"""The probe stands where an actor would."""

import attrs
import pytest
import trio

from actors import ActorStoppedError, MailboxFullError, Reply
from actors.testing import Probe


@attrs.frozen
class Question:
    reply: Reply[int]


async def test_a_probe_returns_its_messages_one_by_one(autojump_clock: object) -> None:
    async with Probe[str | int]("ear") as probe:
        probe.ref.tell_nowait("one")
        await probe.ref.tell(2)
        assert await probe.wait_message(str) == "one"
        assert await probe.wait_message(int) == 2
        await probe.check_silence()
        assert repr(probe.ref) == "<Ref ear>"


async def test_a_probe_waits_for_a_later_message(autojump_clock: object) -> None:
    async with Probe[str]() as probe, trio.open_nursery() as nursery:

        async def tell_later() -> None:
            await trio.sleep(4)
            await probe.ref.tell("late")

        nursery.start_soon(tell_later)
        assert await probe.wait_message(str) == "late"


async def test_a_message_that_does_not_come_fails_the_test(autojump_clock: object) -> None:
    async with Probe[str]() as probe:
        begin = trio.current_time()
        with pytest.raises(trio.TooSlowError):
            await probe.wait_message(str, timeout_seconds=3)
        assert trio.current_time() == begin + 3


async def test_a_message_of_another_kind_fails_the_test() -> None:
    async with Probe[str | int]() as probe:
        probe.ref.tell_nowait("one")
        with pytest.raises(AssertionError, match="expected int, got 'one'"):
            await probe.wait_message(int)


async def test_a_message_breaks_the_silence() -> None:
    async with Probe[str]() as probe, trio.open_nursery() as nursery:
        nursery.start_soon(probe.ref.tell, "psst")
        with pytest.raises(AssertionError, match="1 unexpected messages"):
            await probe.check_silence()


async def test_a_probe_can_be_full() -> None:
    async with Probe[str](capacity=1) as probe:
        probe.ref.tell_nowait("one")
        with pytest.raises(MailboxFullError):
            probe.ref.tell_nowait("two")


async def test_the_test_answers_in_place_of_the_actor() -> None:
    async with Probe[Question]() as probe, trio.open_nursery() as nursery:

        async def ask() -> None:
            assert await probe.ref.ask(Question) == 7

        nursery.start_soon(ask)
        question = await probe.wait_message(Question)
        question.reply.set(7)


async def test_unanswered_questions_to_a_probe_fail_at_the_end() -> None:
    async with trio.open_nursery() as nursery:
        async with Probe[Question]() as probe:

            async def ask() -> None:
                with pytest.raises(ActorStoppedError):
                    await probe.ref.ask(Question)

            nursery.start_soon(ask)
            await probe.wait_message(Question)
        assert probe.ref.statistics().is_stopped


async def test_a_stopped_probe_has_no_more_messages() -> None:
    async with Probe[str]() as probe:
        probe.ref.tell_nowait("last")
        probe.ref.stop_nowait()
        assert await probe.wait_message(str) == "last"
        with pytest.raises(trio.EndOfChannel):
            await probe.wait_message(str)
