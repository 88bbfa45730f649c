"""Settings: numbers that a type lets through and that no run can use."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from infra.backtests import BacktestSpec, settings_of
from infra.settings import parse_settings
from schemas.errors import ConfigError

NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        ({"account": {"cash": "nan"}}, "account.cash"),
        ({"account": {"cash": "1e400"}}, "account.cash"),
        ({"account": {"cash": "-1"}}, "account.cash"),
        ({"strategies": [{"name": "breakout", "capital": "inf"}]}, "strategies.capital"),
        ({"risk": {"limits": {"max_notional": "nan"}}}, "risk.limits.max_notional"),
        ({"risk": {"approval_timeout_s": INFINITE}}, "risk.approval_timeout_s"),
        ({"market": {"mark_interval_s": NAN}}, "market.mark_interval_s"),
        ({"venue": {"fee": {"type": "per_share", "rate": "-1"}}}, "venue.fee.rate"),
        ({"venue": {"latency": {"submit_ns": -1}}}, "venue.latency.submit_ns"),
        ({"venue": {"participation": "nan"}}, "venue.participation"),
        ({"venue": {"participation": "sNaN"}}, "venue.participation"),
        ({"venue": {"fee": {"type": "per_share", "rate": "nan"}}}, "venue.fee.rate"),
        (
            {"venue": {"fee": {"type": "basis_points", "basis_points": "1E-999999999"}}},
            "venue.fee.basis_points",
        ),
    ],
)
def test_number_that_cannot_be_used_is_refused_with_its_path(
    raw: dict[str, Any], field: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_settings(raw, "here")
    assert caught.value.field == field


def test_rebates_and_seeds_may_be_negative() -> None:
    fee = {"type": "maker_taker", "maker_basis_points": "-0.2", "taker_basis_points": "0.3"}
    assert parse_settings({"venue": {"fee": fee}, "seed": -5}, "here").seed == -5


@pytest.mark.parametrize("cash", ["nan", "inf", "1e400", "-5", "0"])
def test_backtest_needs_a_usable_amount_of_cash(cash: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings_of(BacktestSpec(strategy="breakout", cash=Decimal(cash)))
    assert caught.value.field == "cash"


def test_warm_up_is_not_negative() -> None:
    with pytest.raises(ConfigError, match="warm-up"):
        settings_of(BacktestSpec(strategy="breakout", warmup_ns=-1))
