"""Settings: keys that nobody reads, and numbers that a type lets through and no run can use."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any, get_args

import msgspec
import pytest

from infra.backtests import BacktestSpec, settings_of
from infra.settings import Settings, parse_settings
from schemas.errors import ConfigError

NAN, INFINITE = float("nan"), float("inf")


def tables(annotation: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of every table of settings; the last step of a model's is its type."""
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        tag = annotation.__struct_config__.tag
        yield path if tag is None else (*path, str(tag))
        for field in msgspec.structs.fields(annotation):
            yield from tables(field.type, (*path, field.name))
        return
    is_list = getattr(annotation, "__origin__", None) is tuple
    for inner in get_args(annotation):
        yield from tables(inner, (*path, 0) if is_list else path)


@pytest.mark.parametrize("path", sorted(set(tables(Settings)), key=str))
def test_key_that_nobody_reads_is_refused_in_every_table(path: tuple[str | int, ...]) -> None:
    is_model = len(path) > 1 and path[:2] in {("venue", "fee"), ("venue", "slippage")}
    raw: Any = {"nobody_reads": 1, **({"type": path[-1]} if is_model else {})}
    for step in reversed(path[:-1] if is_model else path):
        raw = [raw] if step == 0 else {str(step): raw}

    with pytest.raises(ConfigError, match="here: unknown setting") as caught:
        parse_settings(raw, "here")

    names = [str(step) for step in (path[:-1] if is_model else path) if step != 0]
    assert caught.value.field == ".".join([*names, "nobody_reads"])
    assert caught.value.value == 1
    assert caught.value.remedy.startswith("known")


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


@pytest.mark.parametrize(
    ("raw", "field", "value", "remedy"),
    [
        ({"risk": {"autonomy": "SEMI"}}, "risk.autonomy", "SEMI", "choose AUTOMATIC, SEMI_"),
        ({"web": {"access": "none"}}, "web.access", "none", "choose auto, keys"),
        ({"accounts": [{"kind": "X"}]}, "accounts[0].kind", "X", "choose CASH, REG_T"),
        ({"venue": {"fee": {"rate": 1}}}, "venue.fee.type", None, "choose none, per_share"),
        ({"strategies": [{}]}, "strategies[0]", {}, "`millrace config example`"),
        ({"strategies": {"name": "a"}}, "strategies", {"name": "a"}, "`millrace config example`"),
        ({"run": {"port": "x"}}, "run.port", "x", "`millrace config example`"),
        ({"risk": {"limits": {"max_notional": "x"}}}, "risk.limits.max_notional", "x", "docs/risk"),
        ({"database": {"keep_days": {"a": "b"}}}, "database.keep_days", {"a": "b"}, "`millrace"),
        ({"kafka": {"kinds_of": {"A": [-1]}}}, "kafka.kinds_of", {"A": [-1]}, "`millrace"),
    ],
)
def test_value_that_does_not_fit_is_named_with_what_does(
    raw: dict[str, Any], field: str, value: object, remedy: str
) -> None:
    with pytest.raises(ConfigError, match=r"^here: ") as caught:
        parse_settings(raw, "here")

    assert (caught.value.field, caught.value.value) == (field, value)
    assert caught.value.remedy.startswith(remedy)


def test_warm_up_needs_a_first_day() -> None:
    with pytest.raises(ConfigError, match="none is named"):
        settings_of(BacktestSpec(strategy="breakout", warmup_ns=1))


def test_range_that_ends_before_it_begins_is_said_to() -> None:
    with pytest.raises(ConfigError, match="ends before it begins"):
        settings_of(BacktestSpec(strategy="breakout", start_ns=10, end_ns=9))
