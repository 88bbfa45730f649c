"""Equal amounts, however they are written, make one configuration."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from agents.runners.replay import Identity, manifest_of
from infra.backtests import BacktestSpec, prepare
from infra.canonical import canonical_config
from infra.settings import Settings, parse_settings
from schemas.values import canonical

EXACT = {
    "risk": {"limits": {"max_position": "100", "max_drawdown": "0.2"}},
    "venue": {"fee": {"type": "per_share", "rate": "0.005"}, "participation": "0.1"},
}
LONG = {
    "risk": {"limits": {"max_position": "1E+2", "max_drawdown": "0.20"}},
    "venue": {"fee": {"type": "per_share", "rate": "0.0050"}, "participation": "0.100"},
}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("1000.0", "1000"),
        ("1000", "1000"),
        ("1E+3", "1000"),
        ("0.0050", "0.005"),
        ("-2.50", "-2.5"),
        ("-0.00", "0"),
        ("1234567890123456789012345678901.50", "1234567890123456789012345678901.5"),
        ("NaN", "NaN"),
    ],
)
def test_amount_has_one_form(value: str, text: str) -> None:
    assert str(canonical(Decimal(value))) == text


def config_hash(cash: str, settings: Settings) -> str:
    """Return the config hash of a backtest."""
    spec = BacktestSpec(
        strategy="buy_and_hold", symbols=("SPY",), cash=Decimal(cash), settings=settings
    )
    _, setup, _ = prepare(spec)
    return manifest_of(setup.config, [], Identity("test", "test"), "run", "backtest").config_hash


def test_equal_amounts_of_a_backtest_give_one_hash() -> None:
    exact, long = parse_settings(EXACT, "here"), parse_settings(LONG, "here")

    hashes = {config_hash("1000", exact), config_hash("1000.0", long), config_hash("1E+3", exact)}

    assert len(hashes) == 1
    assert config_hash("1000.5", exact) not in hashes


def test_what_is_no_amount_stays_as_it_is() -> None:
    settings = parse_settings({"strategies": [{"name": "breakout", "parameters": {"a": 1.0}}]}, "")

    assert msgspec.json.encode(canonical_config(settings)) == msgspec.json.encode(settings)
