"""The quick look at an account's exposure against the exact sums that it spares."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from agents.account.config import AccountConfig
from agents.account.exposure import Exposure
from agents.account.slots import Book
from agents.account.state import Account, Holding, new_account
from schemas.instruments import Universe
from schemas.risk import LimitSet
from tests.generated import universe

SYMBOLS = tuple(f"I{k}" for k in range(6))

quantities = st.integers(-5000, 5000).map(Decimal)
working = st.integers(0, 3000).map(Decimal)
# Quotes' middles stand between two prices of the grid.
prices = st.integers(1, 400_000).map(lambda units: units / 200)
holdings = st.lists(st.tuples(quantities, working, working, prices), min_size=1, max_size=6)


def holding_account(held: list[tuple[Decimal, Decimal, Decimal, float]]) -> tuple[Account, Book]:
    """Return an account that holds ``held``, and the prices of it."""
    account = new_account(AccountConfig(account_id="paper", cash=Decimal(1_000_000)))
    instruments: Universe = universe(SYMBOLS)
    book = Book(instruments, {}, LimitSet())
    for symbol, (quantity, buys, sells, price) in zip(SYMBOLS, held, strict=False):
        account.holdings[f"{symbol}.XXXX"] = Holding(quantity, buys, sells)
        book.prices[f"{symbol}.XXXX"] = price
    return account, book


@given(
    holdings,
    st.integers(0, 10**9).map(lambda units: Decimal(units) / 100),
    st.booleans(),
    st.integers(-2, 2).map(lambda cents: Decimal(cents) / 100),
    st.sampled_from([Decimal("0.1"), Decimal("0.5"), Decimal(1)]),
)
def test_what_is_well_within_is_within_to_the_last_cent(
    held: list[tuple[Decimal, Decimal, Decimal, float]],
    notional: Decimal,
    is_buy: bool,
    beside: Decimal,
    margin: Decimal,
) -> None:
    account, book = holding_account(held)
    exact = Exposure(account, book)
    exact.refresh()
    signed = notional if is_buy else -notional
    gross = exact.gross_worst + notional
    net = abs((exact.net_long_worst if is_buy else exact.net_short_worst) + signed)
    # Bounds at, a cent beside, and far from what the order comes to.
    for max_gross, max_net in (
        (gross + beside, net + Decimal(10**12)),
        (gross + Decimal(10**12), net + beside),
        (gross * 2 + 1, net * 2 + 1),
    ):
        if Exposure(account, book).is_well_within(
            float(notional), float(signed), float(margin), float(max_gross), float(max_net)
        ):
            assert gross <= max_gross
            assert net <= max_net
            assert notional * margin <= exact.excess(margin)


def test_an_order_far_from_every_bound_is_well_within() -> None:
    account, book = holding_account([(Decimal(100), Decimal(0), Decimal(0), 50.0)])
    exposure = Exposure(account, book)
    assert exposure.is_well_within(1000.0, 1000.0, 0.5, 1e6, 1e6)
    assert not exposure.is_well_within(1000.0, 1000.0, 0.5, 6000.0, 1e6)
    assert not exposure.is_well_within(1000.0, 1000.0, 0.5, 1e6, 6000.0)


def test_a_change_of_a_holding_is_seen() -> None:
    account, book = holding_account([(Decimal(100), Decimal(0), Decimal(0), 50.0)])
    exposure = Exposure(account, book)
    assert exposure.is_well_within(1.0, 1.0, 0.5, 7000.0, 7000.0)
    account.holdings["I0.XXXX"].quantity = Decimal(200)
    exposure.changed["I0.XXXX"] = None
    assert not exposure.is_well_within(1.0, 1.0, 0.5, 7000.0, 7000.0)


def test_nothing_is_well_within_without_a_price() -> None:
    account, book = holding_account([(Decimal(100), Decimal(0), Decimal(0), 50.0)])
    book.prices.clear()
    assert not Exposure(account, book).is_well_within(1.0, 1.0, 0.5, 1e12, 1e12)
