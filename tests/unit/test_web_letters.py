"""Dead letters that are retried: once, by the feed where they are of the market."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from schemas import topics as t
from schemas.codec import encode
from schemas.control import DeadLetter
from schemas.envelope import Header
from schemas.errors import ConflictError, RecordError, StorageError, UnconfirmedError
from schemas.retries import written_again
from streams.memory_log import MemoryLog
from tests.unit.test_web_system import Resender, letter
from tests.unit.web_run import START_NS, Run, filled_run, problem, submit, trade
from tests.unit.web_stage import pending
from web.problems import ProblemError
from web.retries import Retries
from web.route_table import Call, NoQuery
from web.routes.dead_letters import RetryRequest, retry_letter

RETRY = "/api/system/deadletters/retry"
WAITING = submit("waits", at=30)


@pytest.fixture
def run() -> Run:
    """Return a run with a little session, nobody answers in it; one order waits for a person."""
    run = Run(has_stage=False)
    run.log.append(filled_run())
    run.log.append([(t.ACCOUNT_INPUTS, WAITING), (t.ORDER_EVENTS, pending(WAITING, START_NS))])
    return run


@pytest.fixture
def client(run: Run) -> Iterator[TestClient]:
    """Give a client of ``run``."""
    with run.client() as client:
        yield client


def retry(client: TestClient, name: str = "a") -> Any:
    return client.post(RETRY, json={"event_id": name})


def listed(client: TestClient) -> dict[str, bool]:
    """Return for each letter whether the list says that it was retried."""
    letters = client.get("/api/system/deadletters").json()["dead_letters"]
    return {item["event_id"]: item["is_retried"] for item in letters}


# ---- once


def test_letter_is_written_once_and_the_list_says_so(run: Run, client: TestClient) -> None:
    order = submit("again")
    run.append(client, [letter("a", value=encode(order)), letter("b", value=encode(order))])
    before = run.log.end_offset(t.ACCOUNT_INPUTS)

    assert retry(client).status_code == 200
    second = retry(client)

    assert problem(second, 409)["code"] == "already_retried"
    assert run.log.end_offset(t.ACCOUNT_INPUTS) == before + 1
    assert run.log.read(t.ACCOUNT_INPUTS, before, 1)[0].record == written_again("a", order)
    assert listed(client) == {"a": True, "b": False}


def test_command_that_was_written_again_is_known_to_other_and_later_processes(run: Run) -> None:
    with run.client() as client:
        run.append(client, [letter("a", value=encode(submit("again")))])
        assert retry(client).status_code == 200
    log = run.log
    assert isinstance(log, MemoryLog)
    with Run(log=log, has_stage=False).client() as other:
        assert listed(other) == {"a": True}
        assert problem(retry(other), 409)["code"] == "already_retried"


@pytest.mark.parametrize("way", ["log", "feed", "cluster"])
async def test_requests_at_the_same_time_write_a_letter_once(run: Run, way: str) -> None:
    written: list[Header] = []
    may_go = asyncio.Event()

    async def feed_again(record: Header) -> None:
        written.append(record)
        await may_go.wait()

    async def publish(_: str, record: Header) -> None:
        await feed_again(record)

    async def resend(letter: DeadLetter) -> str:
        await feed_again(letter)
        return ""

    record, topic = (trade(1.0), t.MARKET_EVENTS) if way == "feed" else (submit("x"), "")
    operations = run.context.operations
    operations.feed_again = feed_again
    operations.resend = resend if way == "cluster" else None
    run.context.log.publish = publish
    run.context.views.load(run.log)
    run.log.append([letter("a", topic or t.ACCOUNT_INPUTS, encode(record))])
    run.context.views.load(run.log)
    call = Call({}, NoQuery(), RetryRequest("a"))
    asked = [asyncio.create_task(retry_letter(run.context, call)) for _ in range(5)]
    done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    may_go.set()
    ended = await asyncio.gather(*asked, return_exceptions=True)

    assert done
    assert len(written) == 1
    refused = [error for error in ended if isinstance(error, ProblemError)]
    assert [error.code for error in refused] == ["already_retried"] * 4


@pytest.mark.parametrize("outcome", ["still unusable", StorageError("no answer")])
def test_letter_of_a_cluster_that_was_not_written_for_sure_may_be_retried(
    run: Run, client: TestClient, outcome: str | Exception
) -> None:
    resend = run.context.operations.resend = Resender(outcome)
    run.append(client, [letter("a", value=encode(submit("again")))])
    assert retry(client).status_code in (422, 503)
    assert listed(client) == {"a": False}

    resend.outcome = ""

    assert retry(client).status_code == 200
    assert problem(retry(client), 409)["code"] == "already_retried"


@pytest.mark.parametrize(
    ("fault", "code", "status"),
    [
        (StorageError("the queue is full"), "log_unavailable", 200),
        (UnconfirmedError("it ended under way"), "outcome_unknown", 409),
        (TimeoutError(), "outcome_unknown", 409),
    ],
)
def test_letter_may_be_retried_unless_it_may_have_been_written(
    run: Run, client: TestClient, fault: Exception, code: str, status: int
) -> None:
    publish = run.log.publish

    async def fail(*_: object) -> None:
        raise fault

    run.append(client, [letter("a", value=encode(submit("again")))])
    run.context.log.publish = fail
    assert problem(retry(client), 503)["code"] == code
    run.context.log.publish = publish

    assert retry(client).status_code == status


def test_memory_of_retries_is_bounded() -> None:
    retries = Retries(kept_max=3)
    assert all(retries.take(name) for name in "abcd")
    assert ["a" in retries, "b" in retries] == [False, True]
    assert not retries.take("d")
    retries.release("d")
    assert retries.take("d")


# ---- market events


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (RecordError("it cannot be used", field="price", value=-5.0), 422, "record_unusable"),
        (ConflictError("a recording", remedy="begin another run"), 409, "no_live_market"),
        (StorageError("the queue is full"), 503, "log_unavailable"),
    ],
)
def test_market_event_goes_to_the_feed_or_nowhere(
    run: Run, client: TestClient, fault: Exception, status: int, code: str
) -> None:
    taken: list[Header] = []

    async def refuse(_: Header) -> None:
        raise fault

    async def take(record: Header) -> None:
        taken.append(record)

    event = trade(160.0)
    run.append(client, [letter("a", t.MARKET_EVENTS, encode(event))])
    before = run.log.end_offset(t.MARKET_EVENTS)
    run.context.operations.feed_again = refuse
    found = problem(retry(client), status)
    run.context.operations.feed_again = take
    again = retry(client)

    assert found["code"] == code
    if status == 422:
        assert "it cannot be used (price=-5.0)" in str(found["errors"])
    assert again.status_code == 200
    assert taken == [event]
    assert listed(client) == {"a": True}
    assert run.log.end_offset(t.MARKET_EVENTS) == before
