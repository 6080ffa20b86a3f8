"""The questions of nodes on one Redis to each other."""

from secrets import token_hex

import msgspec
import pytest
import trio

from broker.engine.cluster import Answers
from broker.engine.redis.replies import parse_count
from tests.engine.redis.opened import opened, wait_ready
from tests.support.redis import RedisServer, redis

__all__ = ["redis"]


def answering(name: str):
    async def answer(question: bytes) -> bytes:
        return name.encode() + b" heard " + question

    return answer


async def never(_question: bytes) -> bytes:
    await trio.sleep_forever()
    raise AssertionError


async def fail(_question: bytes) -> bytes:
    raise KeyError("ours")


async def test_every_other_node_is_asked_and_answers(redis: RedisServer):
    prefix = token_hex(8)
    async with (
        opened(redis.url, prefix=prefix) as one,
        opened(redis.url, prefix=prefix) as two,
        opened(redis.url, prefix=prefix) as three,
        opened(redis.url) as stranger,
    ):
        for name, engine in {"one": one, "two": two, "three": three, "stranger": stranger}.items():
            engine.cluster.on_question(answering(name))
            await wait_ready(engine)
        for _ in range(3):
            answers = await one.cluster.ask(b"\x00\xff", patience_seconds=60)
            assert sorted(answers.given) == [b"three heard \x00\xff", b"two heard \x00\xff"]
            assert answers.silent == 0


async def test_nobody_else_is_there(redis: RedisServer):
    async with opened(redis.url) as alone:
        await wait_ready(alone)
        assert await alone.cluster.ask(b"x", patience_seconds=60) == Answers([], 0)


@pytest.mark.parametrize("answer", [never, fail])
async def test_a_node_that_does_not_answer_is_counted_and_nothing_else_suffers(redis: RedisServer, answer):
    prefix = token_hex(8)
    async with opened(redis.url, prefix=prefix) as one, opened(redis.url, prefix=prefix) as two:
        for engine in (one, two):
            await wait_ready(engine)
        two.cluster.on_question(answer)
        one.cluster.on_question(answering("one"))
        for _ in range(6):  # more than are answered at once
            assert await one.cluster.ask(b"x", patience_seconds=0.2) == Answers([], 1)
        if answer is fail:
            assert (await two.cluster.ask(b"x", patience_seconds=60)).given == [b"one heard x"]
        await wait_ready(two)


async def test_what_others_publish_there_is_passed_over(redis: RedisServer):
    prefix = token_hex(8)
    async with opened(redis.url, prefix=prefix) as one, opened(redis.url, prefix=prefix) as two:
        for name, engine in {"one": one, "two": two}.items():
            engine.cluster.on_question(answering(name))
            await wait_ready(engine)
        for payload in (
            b"",
            b"\xc1",
            b"{}",
            msgspec.msgpack.encode(["a"]),
            msgspec.msgpack.encode([1, 2, 3]),
        ):
            await redis_publish(one, f"{prefix}:0:questions", payload)
            await redis_publish(one, f"{prefix}:0:answers:{one._node}", payload)
        assert (await one.cluster.ask(b"x", patience_seconds=60)).given == [b"two heard x"]


async def redis_publish(engine, channel: str, payload: bytes) -> None:
    assert await engine._servers[0].link.request("PUBLISH", channel, payload, parse=parse_count) >= 1


async def test_without_the_server_there_are_no_answers(redis: RedisServer):
    async with opened(redis.url) as engine:
        await wait_ready(engine)
        redis.kill()
        assert (await engine.cluster.ask(b"x", patience_seconds=60)).given == []
