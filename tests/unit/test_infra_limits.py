"""Limits of the settings: which instruments their lists mean."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from infra.composition import compose
from infra.feeds import LiveSource
from infra.settings import RiskSettings, Settings
from schemas.errors import ConfigError
from schemas.instruments import Instrument
from schemas.risk import LimitSet
from tests.generated import START_NS, universe

AA = universe(("AA",)).instruments[0]
AMEX = Instrument(ts_event_ns=0, instrument_id="BB.XASE", symbol="BB", venue="XASE")
NYSE = Instrument(ts_event_ns=0, instrument_id="BB.XNYS", symbol="BB", venue="XNYS")


def composed(**limits: Any) -> LimitSet:
    """Return the limits of a run with these in its settings."""
    source = LiveSource(
        "set", [AA, AMEX, NYSE], ("trade",), (), first_ns=START_NS, until_ns=START_NS + 1
    )
    risk = RiskSettings(limits=msgspec.convert(limits, LimitSet, strict=False))
    return compose(Settings(risk=risk), source).config.accounts.limits


@pytest.mark.parametrize("field", ["allow", "deny"])
def test_lists_name_instruments_by_symbol_or_id(field: str) -> None:
    found = composed(**{field: ["AA", "BB.XNYS"]})

    assert getattr(found, field) == [AA.instrument_id, "BB.XNYS"]


def test_empty_list_stays_what_it_is() -> None:
    assert (composed(allow=[]).allow, composed().allow) == ([], None)


@pytest.mark.parametrize("field", ["allow", "deny"])
def test_symbol_of_several_instruments_is_refused(field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        composed(**{field: ["AA", "BB"]})

    assert (caught.value.field, caught.value.value) == (f"risk.limits.{field}", "BB")
    assert caught.value.remedy == "give one of the ids BB.XASE, BB.XNYS"


@pytest.mark.parametrize("field", ["allow", "deny"])
@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("BB.XNYX", "did you mean BB.XNYS?"),
        ("QQQ", f"there is {AA.instrument_id}, BB.XASE, BB.XNYS"),
    ],
)
def test_name_of_no_instrument_of_the_run_stays_and_is_told(
    field: str, name: str, hint: str, caplog: pytest.LogCaptureFixture
) -> None:
    # One settings file serves many selections of instruments.
    found = composed(**{field: ["AA", name]})

    assert getattr(found, field) == [AA.instrument_id, name]
    (line,) = caplog.messages
    assert line == f"risk.limits.{field} names {name}, which is no instrument of this run; {hint}"


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("max_drawdown", "20", "is more than all .* give a fraction: 0.2 is 20 %"),
        ("max_drawdown", "1.01", "is more than all"),
        ("max_drawdown", "-0.2", "must be a number from 0 .* leave it out"),
        ("max_position", "-1", "must be a number from 0"),
        ("stale_after_s", "-1.0", "must be a number from 0"),
        ("max_order_rate", -1, "must be a number from 0"),
    ],
)
def test_bound_that_is_none_is_refused(field: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        composed(**{field: value})

    assert (caught.value.field, caught.value.value) == (f"risk.limits.{field}", value)


def test_bounds_at_their_ends_are_taken() -> None:
    found = composed(max_drawdown="1", max_position="0", max_order_rate=0)

    assert (found.max_drawdown, found.max_position) == (Decimal(1), Decimal(0))
    assert found.max_order_rate == 0
