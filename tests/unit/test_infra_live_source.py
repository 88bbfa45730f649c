"""What a live source says will come, which decides what fills orders."""

from __future__ import annotations

import pytest

from infra.composition import Setup, compose
from infra.feeds import LiveSource
from infra.settings import AccountSettings, Settings, VenueSettings
from schemas.errors import ConfigError, NotFoundError
from tests.generated import START_NS, universe


def source(**kinds_of: tuple[str, ...]) -> LiveSource:
    return LiveSource(
        "kafka",
        universe(("AA", "BB")).instruments,
        ("trade", "quote"),
        (),
        first_ns=START_NS,
        until_ns=START_NS + 1,
        kinds_of=kinds_of,
    )


def test_instrument_of_which_no_quotes_come_is_filled_by_its_trades() -> None:
    every, some = source(), source(BB=("trade",))

    filled = [
        compose(Settings(), item).config.venue.execution_by_instrument for item in (every, some)
    ]

    assert filled == [
        {"AA.XXXX": "quote", "BB.XXXX": "quote"},
        {"AA.XXXX": "quote", "BB.XXXX": "trade"},
    ]
    assert [(i.instrument_id, i.kind) for i in some.inputs() if i.kind == "quote"] == [
        ("AA.XXXX", "quote")
    ]


@pytest.mark.parametrize(
    ("wanted", "kinds"), [("bar", {}), ("quote", {"AA": ("trade",), "BB": ("trade",)})]
)
def test_data_that_do_not_come_cannot_fill_orders(
    wanted: str, kinds: dict[str, tuple[str, ...]]
) -> None:
    settings = Settings(venue=VenueSettings(execution_data=wanted))

    with pytest.raises(ConfigError, match="no order would be filled") as caught:
        compose(settings, source(**kinds))

    assert (caught.value.field, caught.value.value) == ("venue.execution_data", wanted)
    assert caught.value.remedy.startswith("choose auto or ")
    assert "trade" in caught.value.remedy
    assert wanted not in caught.value.remedy


def test_symbol_that_is_none_is_refused() -> None:
    with pytest.raises(NotFoundError, match="CC"):
        source(CC=("trade",))


@pytest.mark.parametrize("place", ["account", "accounts"])
def test_calendar_of_an_account_is_any_exchange_s_and_an_unknown_one_is_refused(place: str) -> None:
    def setup(calendar: str) -> Setup:
        account = AccountSettings(account_id="days", calendar=calendar)
        settings = Settings(account=account)
        if place == "accounts":
            settings = Settings(accounts=(account,))
        return compose(settings, source(AA=("trade",)))

    for calendar in ("XNYS", "NYSE", "XLON"):
        assert len(setup(calendar).sessions[calendar].open_ns) > 5
    with pytest.raises(ConfigError) as caught:
        setup("NOPE")
    assert (caught.value.field, caught.value.value) == (f"{place}.calendar", "NOPE")
