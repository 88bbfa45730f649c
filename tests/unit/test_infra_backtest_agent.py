"""What the backtest agent refuses to run: code and data that a request must not reach."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from infra.backtest_agent import refusal_of
from schemas.control import BacktestRequest


def request(**fields: Any) -> BacktestRequest:
    """Return a request for a backtest."""
    values: dict[str, Any] = {"strategy_name": "buy_and_hold", "initial_cash": "10000", **fields}
    return BacktestRequest(
        event_id="e", ts_event_ns=0, correlation_id="t", task_id="t", operator="test", **values
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"strategy_name": "evil.py:Strategy"},
        {"strategy_name": "/tmp/evil.py:Strategy"},
        {"strategy_name": "../evil"},
        {"strategy_name": "buy\0hold"},
        {"data": "/etc/passwd"},
        {"data": "../outside.csv"},
        {"data": "data/../../outside.csv"},
        {"data": "da\0ily"},
        {"symbols": ["IBM\n"]},
        {"parameters": {"a\0": 1}},
        {"parameters": {"a": "\x1b[2J"}},
    ],
)
def test_request_for_foreign_code_or_data_is_refused(fields: dict[str, Any]) -> None:
    assert refusal_of(request(**fields), Path("data"))


@pytest.mark.parametrize("data", ["", "daily", "demo", "data/sets/mine"])
def test_request_for_known_data_is_run(data: str) -> None:
    assert refusal_of(request(data=data, parameters={"weight": 0.5}), Path("data")) == ""
