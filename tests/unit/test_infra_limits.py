"""Limits of the settings: which instruments their lists mean."""

from __future__ import annotations

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
    risk = RiskSettings(limits=msgspec.convert(limits, LimitSet))
    return compose(Settings(risk=risk), source).config.accounts.limits


@pytest.mark.parametrize("field", ["allow", "deny"])
def test_lists_name_instruments_by_symbol_or_id(field: str) -> None:
    found = composed(**{field: ["AA", "BB.XNYS"]})

    assert getattr(found, field) == [AA.instrument_id, "BB.XNYS"]


def test_empty_list_stays_what_it_is() -> None:
    assert (composed(allow=[]).allow, composed().allow) == ([], None)


@pytest.mark.parametrize("field", ["allow", "deny"])
@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("BB.XNYX", "did you mean BB.XNYS?"),
        ("QQQ", f"leave it out; there is {AA.instrument_id}, BB.XASE, BB.XNYS"),
        ("BB", "give one of the ids BB.XASE, BB.XNYS"),
    ],
)
def test_list_with_what_means_no_one_instrument_is_refused(
    field: str, name: str, remedy: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        composed(**{field: ["AA", name]})

    assert (caught.value.field, caught.value.value) == (f"risk.limits.{field}", name)
    assert caught.value.remedy == remedy
