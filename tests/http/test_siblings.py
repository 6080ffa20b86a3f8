"""The questions of a machine's workers to each other, over sockets that no other user can reach."""

import math
import os
import stat
from contextlib import asynccontextmanager

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families

from broker.http.nodes.scrape import pack_metrics, render_metrics
from broker.http.nodes.siblings import Siblings, sibling_folder
from tests.support.patience import PATIENCE_SECONDS


@pytest.fixture
def folder():
    with sibling_folder() as folder:
        assert folder is not None
        yield folder


@asynccontextmanager
async def answering(folder, index, answer, count=3):
    siblings = Siblings(folder, index, count)
    async with trio.open_nursery() as nursery:
        await nursery.start(siblings.serve, answer)
        yield siblings
        nursery.cancel_scope.cancel()


async def echo(question: bytes) -> bytes:
    return b"heard " + question


def test_the_folder_is_only_for_its_user_and_goes_away():
    with sibling_folder() as folder:
        assert folder is not None
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert len(os.fsencode(folder / "1023")) < 104
        (folder / "0").touch()
    assert not folder.exists()


def test_a_long_temporary_directory_is_no_obstacle(tmp_path, monkeypatch):
    long = tmp_path / ("x" * 120)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    with sibling_folder() as folder:
        assert folder is not None
        assert not folder.is_relative_to(long)


async def test_all_are_asked_at_once_and_all_answer(folder):
    with trio.fail_after(PATIENCE_SECONDS):
        async with answering(folder, 1, echo), answering(folder, 2, echo):
            asker = Siblings(folder, 0, 3)
            answers = await asker.ask(asker.others, b"x", patience_seconds=PATIENCE_SECONDS)
            assert answers == {1: b"heard x", 2: b"heard x"}


async def test_only_silent_workers_are_left_out(folder):
    async def never(_question: bytes) -> bytes:
        await trio.sleep_forever()
        raise AssertionError

    async def nothing(_question: bytes) -> bytes:
        return b""

    with trio.fail_after(PATIENCE_SECONDS):
        async with answering(folder, 1, never), answering(folder, 2, nothing), answering(folder, 3, echo):
            # 4 is not there; 5 is gone and has left its socket.
            stale = trio.socket.socket(trio.socket.AF_UNIX)
            await stale.bind(str(folder / "5"))
            stale.close()
            asker = Siblings(folder, 0, 6)
            waited = 0.5
            while not (answers := await asker.ask(asker.others, b"x", patience_seconds=waited)):
                waited *= 2  # a busy machine
            assert answers == {3: b"heard x"}


async def test_a_question_without_end_or_of_no_sense_harms_nobody(folder):
    with trio.fail_after(PATIENCE_SECONDS):
        async with answering(folder, 1, echo) as siblings:
            asker = Siblings(folder, 0, 2)
            for sent in (b"", b"x" * 1_000_000):
                async with await trio.open_unix_socket(str(folder / "1")) as stream:
                    try:
                        await stream.send_all(sent)
                        await stream.send_eof()
                        assert await stream.receive_some() == b""
                    except trio.BrokenResourceError:
                        pass  # it was too much, and was not read to its end
            async with await trio.open_unix_socket(str(folder / "1")):
                assert await asker.ask([1], b"x", patience_seconds=PATIENCE_SECONDS) == {1: b"heard x"}
            assert siblings.others == [0, 2]


async def test_one_that_was_started_again_takes_its_place(folder):
    with trio.fail_after(PATIENCE_SECONDS):
        asker = Siblings(folder, 0, 2)
        stale = trio.socket.socket(trio.socket.AF_UNIX)
        await stale.bind(str(folder / "1"))
        stale.close()
        for _ in range(2):
            async with answering(folder, 1, echo):
                assert await asker.ask([1], b"x", patience_seconds=PATIENCE_SECONDS)


LABELS = st.dictionaries(st.sampled_from(["kind", "code"]), st.text(max_size=8), min_size=2, max_size=2)
VALUES = st.floats(allow_nan=False)


@given(st.dictionaries(st.integers(0, 255), st.lists(st.tuples(LABELS, VALUES), max_size=4), max_size=4))
def test_every_series_of_every_worker_is_there_once_with_its_place(workers):
    packed = {}
    for worker, series in workers.items():
        registry = CollectorRegistry()
        gauge = Gauge("things", "Things", ("kind", "code"), registry=registry)
        Histogram("seconds", "Seconds", registry=registry).observe(worker)
        for labels, value in series:
            gauge.labels(**labels).set(value)
        packed[worker] = pack_metrics((registry, CollectorRegistry()))
    page = render_metrics("här:1", [*workers, 256], packed).decode()
    families = list(text_string_to_metric_families(page))
    names = [family.name for family in families]
    assert len(names) == len(set(names)), "each name stands in one place"
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }
    assert len(samples) == sum(len(family.samples) for family in families)
    assert {dict(key[1:])["node"] for key in samples} == {"här:1"}
    place = (("node", "här:1"),)
    for worker in (*workers, 256):
        up = samples["greenroom_worker_up", *place, ("worker", f"{worker}")]
        assert up == (worker in workers)
    for worker, series in workers.items():
        for labels, value in {tuple(sorted(labels.items())): value for labels, value in series}.items():
            key = tuple(sorted((*labels, *place, ("worker", f"{worker}"))))
            assert samples["things", *key] == value
        assert samples["seconds_sum", *place, ("worker", f"{worker}")] == worker


def test_values_that_json_does_not_have_come_through():
    registry = CollectorRegistry()
    for name, value in {"nan": math.nan, "most": math.inf, "least": -math.inf}.items():
        Gauge(name, name, registry=registry).set(value)
    page = render_metrics("a", [0], {0: pack_metrics([registry])}).decode()
    assert 'nan{node="a",worker="0"} NaN' in page
    assert 'most{node="a",worker="0"} +Inf' in page
    assert 'least{node="a",worker="0"} -Inf' in page
