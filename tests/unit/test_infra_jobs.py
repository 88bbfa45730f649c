"""Scheduled jobs: when they run, what is told of them, and what they do."""

from __future__ import annotations

import asyncio
import json
import os
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from infra.backtests import BacktestSpec, run_backtest
from infra.jobs import clean, jobs, reconcile
from infra.operating import masked
from infra.scheduler import NS, Job, Scheduler
from infra.times import parse_time
from schemas import topics as t
from schemas.errors import ConfigError, ConflictError, NotFoundError, StorageError
from tests.unit.web_run import START_NS, Run, fill, filled_run, position

DAY_S = 86_400


async def nothing() -> str:
    """Do nothing."""
    return "done"


# ---- the scheduler


def test_daily_job_runs_at_its_time_of_day() -> None:
    job = Job("a", "", nothing, at_s=22 * 3600)

    assert job.next_ns(0) == 22 * 3600 * NS
    assert job.next_ns(22 * 3600 * NS) == (22 * 3600 + DAY_S) * NS
    assert job.schedule() == "daily at 22:00 UTC"


def test_job_without_a_time_is_refused() -> None:
    with pytest.raises(ConfigError):
        Scheduler([Job("a", "", nothing)])


async def test_jobs_run_when_they_are_due_and_again() -> None:
    runs = asyncio.Semaphore(0)

    async def work() -> str:
        runs.release()
        return "again"

    scheduler = Scheduler([Job("often", "", work, every_s=0.01), Job("rare", "", work, at_s=1)])
    scheduler.start()
    async with asyncio.timeout(10):
        for _ in range(3):
            await runs.acquire()
    await scheduler.stop()

    often, rare = scheduler.states()
    assert (often.last_status, often.last_result) == ("ok", "again")
    assert (rare.last_status, rare.last_started_ns) == ("", None)
    assert often.next_run_ns is not None


async def test_job_that_fails_or_hangs_is_told_of_and_has_a_next_time() -> None:
    async def fail() -> str:
        raise StorageError("the disk is full")

    async def hang() -> str:
        await asyncio.Event().wait()
        return ""

    scheduler = Scheduler(
        [Job("a", "", fail, every_s=60), Job("b", "", hang, every_s=60, timeout_s=0.01)],
        lambda: 100 * NS,
    )

    failed, hung = await scheduler.run_now("a"), await scheduler.run_now("b")

    assert (failed.last_status, failed.last_result) == ("failed", "the disk is full")
    assert (hung.last_status, hung.next_run_ns) == ("failed", 160 * NS)
    with pytest.raises(NotFoundError):
        await scheduler.run_now("c")


@pytest.mark.parametrize("jump_s", [DAY_S, -DAY_S])
async def test_jobs_at_an_interval_go_on_when_the_wall_clock_jumps(jump_s: int) -> None:
    wall_ns, steady_ns = [1000 * DAY_S * NS], [0]
    often = Job("often", "", nothing, every_s=300)
    scheduler = Scheduler([often], lambda: wall_ns[0], lambda: steady_ns[0])
    wall_ns[0] += jump_s * NS
    (state,) = scheduler.states()
    assert await scheduler.run_due() == 300
    assert (state.last_status, state.next_run_ns) == ("", wall_ns[0] + 300 * NS)

    steady_ns[0] += 300 * NS
    wall_ns[0] += (300 - jump_s) * NS
    assert await scheduler.run_due() == 300
    (state,) = scheduler.states()
    assert (state.last_status, state.last_duration_s) == ("ok", 0.0)
    assert state.next_run_ns == wall_ns[0] + 300 * NS


async def test_job_at_a_time_of_day_goes_by_the_wall_clock() -> None:
    wall_ns = [0]
    daily = Job("daily", "", nothing, at_s=3600)
    scheduler = Scheduler([daily], lambda: wall_ns[0], lambda: 0)
    assert await scheduler.run_due() == 3600
    wall_ns[0] = 3600 * NS
    assert await scheduler.run_due() == DAY_S
    assert scheduler.states()[0].last_status == "ok"


async def test_job_does_not_run_twice_at_once() -> None:
    gate = asyncio.Event()

    async def wait() -> str:
        await gate.wait()
        return "done"

    scheduler = Scheduler([Job("a", "", wait, every_s=60)])
    first = asyncio.create_task(scheduler.run_now("a"))
    await asyncio.sleep(0)

    with pytest.raises(ConflictError):
        await scheduler.run_now("a")
    gate.set()
    assert (await first).last_status == "ok"


# ---- the jobs


def test_reconcile_finds_a_position_that_its_fills_do_not_make() -> None:
    run = Run()
    run.log.append([*filled_run()[:2], (t.ORDER_FILLS, fill("a"))])
    run.log.append([(t.PORTFOLIO_POSITIONS, position("10"))])
    with run.client() as client:
        assert reconcile(run.context, None) == []
        run.append(client, [(t.PORTFOLIO_POSITIONS, position("12"))])
        assert reconcile(run.context, None) == ["paper/momentum/SPY.ARCX: position 12, fills 10"]


async def test_report_of_the_day_is_a_file(tmp_path: Path) -> None:
    run = Run()
    run.log.append(filled_run())
    with run.client():
        made = {job.name: job for job in jobs(run.context, None, tmp_path / "r", tmp_path, 0)}
        told = await made["end-of-day-report"].work()

    report = json.loads((tmp_path / "r" / "2013-10-07.json").read_bytes())
    assert "2013-10-07.json" in told
    assert report["fills"] == 2
    assert report["orders_by_status"] == {"FILLED": 1, "SUBMITTED": 2}
    assert Decimal(str(report["traded"])) == Decimal(3302)
    assert [group["key"] for group in report["results_by_strategy"]] == ["manual", "momentum"]
    assert sorted(made) == ["end-of-day-report", "reconcile", "retention"]


def test_retention_removes_old_backtests_and_drafts_but_no_session(tmp_path: Path) -> None:
    spec = BacktestSpec(
        strategy="buy_and_hold",
        symbols=("IBM",),
        start_ns=parse_time("2014-01-01", "from"),
        end_ns=parse_time("2014-01-31", "to"),
    )
    runs = tmp_path / "runs"
    run_backtest(spec, out=runs / "old")
    run_backtest(spec, out=runs / "new")
    for name in (".x.1.partial", ".y.2.partial"):
        (runs / name).mkdir()
    session = runs / "paper" / "journal"
    session.mkdir(parents=True)
    (session / "segment-000000.rows").write_bytes(b"no journal")
    for path in (runs / "old" / "journal", runs / ".x.1.partial", session):
        os.utime(path, ns=(START_NS, START_NS))
    now_ns = (runs / "new").stat().st_mtime_ns

    kept = clean(tmp_path, 0, now_ns)
    (runs / ".x.1.partial").mkdir()
    os.utime(runs / ".x.1.partial", ns=(START_NS, START_NS))
    removed = clean(tmp_path, 30, now_ns)

    assert kept.startswith("removed 1 drafts and 0 backtests")
    assert removed.startswith("removed 1 drafts and 1 backtests")
    assert sorted(path.name for path in runs.iterdir()) == [".y.2.partial", "new", "paper"]


def test_secrets_are_masked_and_empty_ones_are_not() -> None:
    settings = {
        "kafka": {"password_file": "secret.txt", "username": "ada"},
        "source": {"options": {"api_key": "123", "token": "", "symbols": ["IBM"]}},
        "list": [{"secret": "x"}],
    }

    assert msgspec.to_builtins(masked(settings)) == {
        "kafka": {"password_file": "***", "username": "ada"},
        "source": {"options": {"api_key": "***", "token": "", "symbols": ["IBM"]}},
        "list": [{"secret": "***"}],
    }
