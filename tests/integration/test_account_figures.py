"""Figures of accounts over HTTP against the account stage's own, at every instant that it told of.

The stage publishes whole snapshots. Asked as of their instants the API adds up equity, the day's
result and buying power from positions, prices, marks and orders, and has to find the same.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from infra.backtests import BacktestSpec, run_backtest
from infra.run_store import JournalRuns
from infra.settings import AccountSettings, Settings
from schemas.enums import AccountKind
from schemas.portfolio import AccountSnapshot
from schemas.topics import PORTFOLIO_ACCOUNTS
from streams.journal import JournalReader
from streams.memory_log import MemoryLog
from tests.integration.test_database_web import app_of
from web.times import format_time, parse_time

EVERY = 5
CENT = Decimal("0.01")


@pytest.mark.parametrize("kind", list(AccountKind))
async def test_api_adds_up_to_what_the_account_stage_publishes(
    kind: AccountKind, tmp_path: Path
) -> None:
    spec = BacktestSpec(
        strategy="mean_reversion",
        data="daily",
        symbols=("IBM", "SPY"),
        cash=Decimal(100_000),
        end_ns=parse_time("1999-12-31", is_end=True),
        settings=Settings(account=AccountSettings(kind=kind)),
    )
    done = run_backtest(spec, out=tmp_path / "runs" / "figures")
    reader = JournalReader(done.folder / "journal")
    told = [
        record
        for _, record in reader.read(PORTFOLIO_ACCOUNTS, 0, reader.next_offsets[PORTFOLIO_ACCOUNTS])
        if isinstance(record, AccountSnapshot)
    ]
    query = f"run_id={done.result.manifest.run_id}&account_id=paper"

    powers = set()
    async with app_of(MemoryLog("running", lambda: 0), JournalRuns(tmp_path), None, query) as api:
        for snapshot in told[:-1:EVERY]:
            as_of = format_time(snapshot.ts_event_ns)
            found = await api.get(f"/api/portfolio/account?as_of={as_of}")
            for name in ("equity", "daily_pnl", "buying_power"):
                assert abs(found[name] - getattr(snapshot, name)) < CENT, (as_of, name)
            powers.add(found["buying_power"])

    assert len(powers) > 20
