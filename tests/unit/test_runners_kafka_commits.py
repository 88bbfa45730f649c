"""Commits of Kafka offsets: against a naive model, and against upstream's three faults.

Each fault is shown on the stock driver first: when an upgrade mends one, its test fails, and our
own bookkeeping may go.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import faust
import pytest
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from agents.runners.kafka.app import new_app
from agents.runners.kafka.commits import Commits
from streams.kafka.connection import Connection

T0 = TP("t", 0)


# ---- the bookkeeping


def test_nothing_is_due_before_the_oldest_batch_is_finished() -> None:
    commits: Commits[str] = Commits()
    commits.take("p", 5, 9)
    commits.take("p", 10, 19)
    commits.finish("p", 19)
    assert commits.due("p") is None
    assert commits.restart("p") == 5
    commits.finish("p", 9)
    assert commits.due("p") == 20
    assert commits.restart("p") == 20


def test_what_is_confirmed_is_not_due_again_and_what_is_not_stays_due() -> None:
    commits: Commits[str] = Commits()
    commits.take("p", 0, 0)
    commits.finish("p", 0)
    assert commits.due("p") == commits.due("p") == 1
    commits.confirm("p", 1)
    assert commits.due("p") is None


def test_missing_offsets_between_batches_do_not_stall() -> None:
    commits: Commits[str] = Commits()
    commits.take("p", 0, 3)
    commits.take("p", 90, 91)
    commits.finish("p", 3)
    commits.finish("p", 91)
    assert commits.due("p") == 92


def test_held_commits_wait_for_the_state_and_go_no_further_than_it() -> None:
    commits: Commits[str] = Commits(is_held=True)
    commits.take("p", 0, 9)
    commits.finish("p", 9)
    assert commits.due("p") is None
    commits.allow("p", 4)
    assert commits.due("p") == 4
    commits.allow("p", 50)
    assert commits.due("p") == 10


def test_forgotten_partition_begins_anew() -> None:
    commits: Commits[str] = Commits()
    commits.take("p", 0, 9)
    commits.forget("p")
    commits.finish("p", 9)
    assert (list(commits), commits.due("p"), commits.restart("p")) == ([], None, None)


@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3)), max_size=20),
    st.lists(st.integers(0, 19), max_size=40),
)
def test_due_is_the_end_of_the_finished_head(
    sizes: list[tuple[int, int]], finishing: list[int]
) -> None:
    commits: Commits[str] = Commits()
    batches: list[tuple[int, int]] = []
    at = 0
    for size, hole in sizes:
        batches.append((at, at + size - 1))
        at += size + hole
        commits.take("p", *batches[-1])
    finished: set[int] = set()
    for index in finishing:
        if index < len(batches) and index not in finished:
            finished.add(index)
            commits.finish("p", batches[index][1])
        head = 0
        while head in finished:
            head += 1
        assert commits.due("p") == (batches[head - 1][1] + 1 if head else None)


# ---- upstream's faults


@pytest.fixture
async def theirs() -> AsyncIterator[Any]:
    """Give the consumer of Faust's own driver; nothing is connected."""
    app = faust.App("stock", broker="kafka://127.0.0.1:1", store="memory://")
    yield app.consumer
    app.consumer._thread.thread_loop.close()  # type: ignore[attr-defined]


@pytest.fixture
async def mine() -> Any:
    """Give our consumer; nothing is connected."""
    return new_app("ours", Connection(bootstrap="127.0.0.1:1"), "unused").consumer


async def test_f1_hole_right_behind_the_commit(theirs: Any, mine: Any) -> None:
    # Committed 2585, so 2585 is next; it is in work while 2586 to 2589 are finished.
    theirs._committed_offset[T0] = 2585
    theirs._acked[T0] = [2586, 2587, 2588, 2589]
    assert theirs._new_offset(T0) == 2590, "mended upstream: Commits may not be needed any more"

    for offset in range(2585, 2590):
        mine.commits.take(T0, offset, offset)
    mine.commits.confirm(T0, 2585)
    for offset in range(2586, 2590):
        mine.commits.finish(T0, offset)
    assert mine._filter_committable_offsets([T0]) == {}


@pytest.mark.parametrize("committed", [None, 0])
async def test_f2_hole_at_the_start_of_a_partition(
    theirs: Any, mine: Any, committed: int | None
) -> None:
    theirs._committed_offset[T0] = committed
    theirs._acked[T0] = [1, 2, 3, 4]
    assert theirs._new_offset(T0) == 5, "mended upstream: Commits may not be needed any more"

    for offset in range(5):
        mine.commits.take(T0, offset, offset)
    for offset in range(1, 5):
        mine.commits.finish(T0, offset)
    assert mine._filter_committable_offsets([T0]) == {}


async def test_f3_commit_that_failed(
    theirs: Any, mine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(offsets: Mapping[TP, int]) -> bool:
        await asyncio.sleep(0)
        return not offsets

    async def flush() -> None:
        await asyncio.sleep(0)

    for consumer in (theirs, mine):
        monkeypatch.setattr(consumer, "_commit", refuse)
        monkeypatch.setattr(consumer, "assignment", lambda: {T0})
    monkeypatch.setattr(theirs.app.producer, "flush", flush)

    assert not await theirs._commit_offsets({T0: 5})
    assert not theirs._should_commit(T0, 5), "mended upstream: Commits may not be needed any more"

    mine.commits.take(T0, 0, 4)
    mine.commits.finish(T0, 4)
    assert not await mine._commit_offsets({T0: 5})
    assert mine._filter_committable_offsets([T0]) == {T0: 5}
