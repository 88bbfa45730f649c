"""Dead letters that are retried: once, with the scopes of their records, and not in vain."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from starlette.testclient import TestClient

from schemas import topics as t
from schemas.codec import encode
from schemas.commands import ApproveOrder, CancelOrder, CheckOrder, ReplaceOrder
from schemas.control import DeadLetter
from schemas.enums import AutonomyMode, BreakerState, CorporateActionKind, KillAction, Scope
from schemas.envelope import Header
from schemas.errors import ConflictError, RecordError, StorageError, UnconfirmedError
from schemas.instruments import CorporateAction, ExchangeRate
from schemas.order_events import VenueAccepted
from schemas.retries import written_again
from schemas.risk import Kill, LimitSet, SetAutonomy, SetBreaker, SetLimits
from streams.memory_log import MemoryLog
from tests.unit.test_web_system import Resender, letter
from tests.unit.web_gate import Gate, bearer
from tests.unit.web_run import START_NS, Run, fill, filled_run, problem, submit, trade
from tests.unit.web_stage import pending
from web.problems import ProblemError
from web.retries import Retries
from web.route_table import Call, NoQuery
from web.routes.dead_letters import RetryRequest, retry_letter
from web.scopes import (
    ADMIN,
    BACKTEST,
    BREAKER_RESET,
    BREAKER_TRIP,
    CONFIG_WRITE,
    RISK_WRITE,
    SCOPES,
    TRADE,
)

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


def retry(client: TestClient, name: str = "a", key: str = "") -> Any:
    return client.post(RETRY, json={"event_id": name}, headers=bearer(key) if key else {})


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


# ---- what is known of the record


HEAD = ("r-1", START_NS, "c", "c")


def approve(order_id: str, account_id: str = "paper") -> ApproveOrder:
    return ApproveOrder(*HEAD, account_id, order_id, True, "ada")


def cancel(order_id: str) -> CancelOrder:
    return CancelOrder(*HEAD, "paper", "momentum", order_id)


def replace(order_id: str) -> ReplaceOrder:
    return ReplaceOrder(*HEAD, "paper", "momentum", order_id, Decimal(5))


def report(order_id: str) -> VenueAccepted:
    return VenueAccepted(*HEAD, "paper", "momentum", order_id, "SPY.ARCX", "v-1")


def limits(max_quantity: str) -> SetLimits:
    return SetLimits(*HEAD, Scope.GLOBAL, "", LimitSet(max_quantity=Decimal(max_quantity)), "ada")


def set_breaker(state: BreakerState, reason: str) -> SetBreaker:
    return SetBreaker(*HEAD, Scope.GLOBAL, "", state, "ada", reason)


def rate(value: str) -> ExchangeRate:
    return ExchangeRate(
        ts_event_ns=START_NS, base_currency="EUR", quote_currency="USD", rate=Decimal(value)
    )


def action(instrument_id: str) -> CorporateAction:
    return CorporateAction(
        ts_event_ns=START_NS,
        instrument_id=instrument_id,
        kind=CorporateActionKind.SPLIT,
        ratio=Decimal(2),
    )


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (submit("new", account_id="nobody"), "account nobody is not known"),
        (submit("o-1"), "order o-1 exists already"),
        (
            msgspec.structs.replace(submit("new"), instrument_id="NIX.XXXX"),
            "instrument NIX.XXXX is not known",
        ),
        (approve("waits", "nobody"), "account nobody is not known"),
        (approve("nobody"), "order nobody is not known"),
        (approve("o-2"), "does not wait for approval: it is SUBMITTED"),
        (cancel("o-1"), "cannot be canceled: it is FILLED"),
        (cancel("nobody"), "order nobody is not known"),
        (replace("o-1"), "cannot be replaced: it is FILLED"),
        (replace("waits"), "cannot be replaced: it is PENDING_APPROVAL"),
        (report("o-1"), "has ended: it is FILLED"),
        (fill("nobody"), "order nobody is not known"),
        (limits("NaN"), "max_quantity of NaN is no bound"),
        (set_breaker(BreakerState.ACTIVE, " "), "not reset without a reason"),
        (rate("0"), "rate 0 is no positive number"),
        (action("NIX.XXXX"), "instrument NIX.XXXX is not known"),
    ],
)
def test_record_that_the_stage_would_refuse_again_is_not_written(
    run: Run, client: TestClient, record: Header, reason: str
) -> None:
    run.append(client, [letter("a", value=encode(record))])
    before = run.log.end_offset(t.ACCOUNT_INPUTS)

    found = problem(retry(client), 422)

    assert found["code"] == "record_unusable"
    assert reason in str(found["errors"])
    assert run.log.end_offset(t.ACCOUNT_INPUTS) == before
    assert listed(client) == {"a": False}


@pytest.mark.parametrize(
    "record",
    [
        submit("new"),
        approve("waits"),
        cancel("waits"),
        cancel("o-2"),
        report("o-2"),
        limits("5"),
        set_breaker(BreakerState.HALTED, ""),
        rate("1.1"),
        action("SPY.ARCX"),
    ],
)
def test_record_that_can_be_used_by_now_is_written(
    run: Run, client: TestClient, record: Header
) -> None:
    run.append(client, [letter("a", value=encode(record))])
    assert retry(client).status_code == 200


def test_run_that_has_told_of_no_account_or_instrument_may_have_any() -> None:
    run = Run(has_stage=False)
    with run.client() as client:
        run.append(client, [letter("a", value=encode(submit("new", account_id="any")))])
        assert retry(client).status_code == 200


# ---- who may


@pytest.mark.parametrize(
    ("topic", "record", "wanted"),
    [
        (t.ACCOUNT_INPUTS, submit("new"), {TRADE}),
        (t.ACCOUNT_INPUTS, approve("waits"), {TRADE}),
        (t.ACCOUNT_INPUTS, cancel("o-2"), {TRADE}),
        (t.ACCOUNT_INPUTS, replace("o-2"), {TRADE}),
        (t.ACCOUNT_INPUTS, report("o-2"), {TRADE}),
        (t.ACCOUNT_INPUTS, limits("5"), {RISK_WRITE}),
        (
            t.ACCOUNT_INPUTS,
            Kill(*HEAD, KillAction.FLATTEN, Scope.GLOBAL, "", "ada", "x"),
            {RISK_WRITE},
        ),
        (t.ACCOUNT_INPUTS, set_breaker(BreakerState.HALTED, "x"), {BREAKER_TRIP}),
        (t.ACCOUNT_INPUTS, set_breaker(BreakerState.ACTIVE, "x"), {BREAKER_RESET}),
        (t.ACCOUNT_INPUTS, SetAutonomy(*HEAD, AutonomyMode.AUTOMATIC, "ada"), {CONFIG_WRITE}),
        (t.ACCOUNT_INPUTS, CheckOrder(*HEAD, "paper", submit("new")), set()),
        (t.ACCOUNT_INPUTS, rate("1.1"), set()),
        (
            t.ACCOUNT_INPUTS,
            None,
            {TRADE, RISK_WRITE, BREAKER_TRIP, BREAKER_RESET, CONFIG_WRITE},
        ),
        (t.STRATEGY_INPUTS, fill("o-2"), {TRADE}),
        (t.VENUE_COMMANDS, None, {TRADE}),
        (t.BACKTEST_REQUESTS, None, {BACKTEST}),
        (t.MARKET_EVENTS, trade(160.0), set()),
    ],
)
def test_retry_takes_the_scope_of_its_record_besides_its_own(
    tmp_path: Path, topic: str, record: Header | None, wanted: set[str]
) -> None:
    gate = Gate(tmp_path)
    value = b"{" if record is None else encode(record)
    run = Run(has_stage=False, gate=gate.keeper)
    run.log.append([letter("a", topic, value)])
    whole = gate.key(ADMIN, *wanted)
    with run.client() as client:
        for scope in SCOPES:
            if scope != ADMIN:
                assert retry(client, key=gate.key(scope)).status_code == 403, scope
        for missing in wanted:
            rest = gate.key(*({ADMIN, *SCOPES} - {missing}))
            found = problem(retry(client, key=rest), 403)
            assert (found["code"], missing in found["detail"]) == ("scope_missing", True)
        assert retry(client, key=whole).status_code != 403
