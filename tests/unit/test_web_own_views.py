"""Read models of some accounts: made without looking at a record, read as the whole stands."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from schemas import topics as t
from schemas.envelope import Header
from schemas.portfolio import PositionChanged
from streams.log import Published
from tests.unit.web_run import decision, fill, mark, position, snapshot
from web.views.kept import Kept
from web.views.models import Views

DESK = frozenset({"desk"})


def told(views: Views, number: int, account_id: str) -> None:
    """Let ``views`` hear one record of each kind of an account."""
    records: list[tuple[str, Header]] = [
        (t.ORDER_FILLS, fill(f"o-{number}")),
        (t.RISK_DECISIONS, decision(f"o-{number}")),
        (t.PORTFOLIO_POSITIONS, position()),
        (t.PORTFOLIO_ACCOUNTS, snapshot()),
        (t.PORTFOLIO_EQUITY, mark(100.0)),
    ]
    views.apply(
        Published(topic, 0, number, msgspec.structs.replace(record, account_id=account_id))
        for topic, record in records
    )


def accounts_in(views: Views) -> list[list[str]]:
    """Return the accounts that each part of the read models tells of."""
    portfolio = views.portfolio
    return [
        [item.record.account_id for item in views.orders.fills.newest_first()],  # type: ignore[attr-defined]
        [item.record.account_id for item in views.risk.decisions.newest_first()],  # type: ignore[attr-defined]
        [key.account_id for key, _ in portfolio.results.entries()],
        [key[0] for key in portfolio.positions],
        [item.account_id for item in portfolio.snapshots.values()],
        [item.account_id for item in portfolio.marks.values()],
        [key[0] for key in portfolio.curves],
    ]


def test_own_views_follow_the_whole_and_know_of_no_other_account() -> None:
    views = Views()
    own = views.of(DESK)
    for number, account_id in enumerate(("paper", "desk", "paper")):
        told(views, number, account_id)

    assert accounts_in(own) == [["desk"]] * 7
    assert [len(kept) for kept in (own.orders.fills, own.risk.decisions)] == [1, 1]
    assert [len(kept) for kept in (views.orders.fills, views.risk.decisions)] == [3, 3]
    assert len(own.portfolio.positions) == 1
    assert [own.portfolio.marks.get((name, "")) is None for name in ("desk", "paper")] == [
        False,
        True,
    ]
    assert own.portfolio.account_ids() == ["desk"]


def test_records_are_looked_at_when_they_are_read_and_no_further() -> None:
    looked: list[int] = []

    def is_wanted(item: Published) -> bool:
        looked.append(item.offset)
        return item.offset % 2 == 0

    kept = Kept(100)
    for number in range(50):
        record = msgspec.structs.replace(fill(f"o-{number}"), ts_event_ns=number)
        kept.add(Published(t.ORDER_FILLS, 0, number, record))
    own = kept.of(is_wanted)
    assert looked == []

    newest = own.newest_first()
    assert [next(newest).offset, next(newest).offset] == [48, 46]
    assert looked == [49, 48, 47, 46]


def test_own_results_are_those_of_now() -> None:
    views = Views()
    own = views.of(DESK)
    for number, realized in enumerate(("3", "5")):
        change = PositionChanged(
            f"p{number}", number, "", "", "desk", "s", "SPY.ARCX", Decimal(1), Decimal(1),
            Decimal(realized), Decimal(0), Decimal(0), "USD",
        )  # fmt: skip
        views.apply([Published(t.PORTFOLIO_POSITIONS, 0, number, change)])

    ((_, pnl),) = own.portfolio.results.entries()
    assert (pnl.realized, pnl.fills) == (Decimal(5), 2)
