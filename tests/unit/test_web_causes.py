"""The order of a chain of causes."""

from __future__ import annotations

from msgspec import structs

from schemas import topics as t
from schemas.commands import ApproveOrder
from schemas.enums import KillAction, OrderStatus, Scope
from schemas.envelope import Header
from schemas.order_events import OrderPendingCancel, VenueCanceled
from schemas.risk import Kill
from streams.log import Published
from tests.unit.web_run import START_NS, fill, submit, submitted
from web.views.causes import in_order


def published(topic: str, record: Header) -> Published:
    """Return a record as its topic holds it."""
    return Published(topic, 0, 0, record)


def test_cause_whose_record_is_not_known_stands_before_the_first_that_names_it() -> None:
    order = structs.replace(submit("o-1"), causation_id="tick-1")
    done = structs.replace(fill("o-1"), market_event_id="tick-2")
    events = [(t.ORDER_EVENTS, submitted(order)), (t.ORDER_FILLS, done), (t.ACCOUNT_INPUTS, order)]
    chain: dict[str, Published | None] = {done.market_event_id: None, order.causation_id: None}
    chain |= {record.event_id: published(topic, record) for topic, record in events}

    names = [name for name, _ in in_order(chain)]

    assert names == [
        order.causation_id,
        order.event_id,
        submitted(order).event_id,
        done.market_event_id,
        done.event_id,
    ]


def test_acts_stand_before_what_they_caused() -> None:
    order = structs.replace(submit("o-1"), ts_event_ns=START_NS)
    begun = structs.replace(submitted(order), ts_event_ns=START_NS)
    act = Kill("kill", START_NS, "k", "", KillAction.FLATTEN, Scope.GLOBAL, "", "ada", "out")
    yes = ApproveOrder("yes", START_NS, "o-1", "", "paper", "o-1", True, "ada", "")
    stopped = OrderPendingCancel(
        *("pc", START_NS, "o-1", "x", "paper", "momentum", "o-1", "SPY.ARCX"),
        OrderStatus.PENDING_CANCEL,
    )
    gone = VenueCanceled(
        *("vc", START_NS, "o-1", "x", "paper", "momentum", "o-1", "SPY.ARCX", "v-1", "REQUESTED")
    )
    items = [
        published(t.ORDER_EVENTS, begun),
        published(t.ACCOUNT_INPUTS, gone),
        published(t.ORDER_EVENTS, stopped),
        published(t.ACCOUNT_INPUTS, order),
        published(t.ACCOUNT_INPUTS, yes),
        published(t.ACCOUNT_INPUTS, act),
    ]
    chain = {item.record.event_id: item for item in items}  # type: ignore[attr-defined]

    names = [name for name, _ in in_order(dict(chain))]

    assert set(names[:2]) == {"yes", "kill"}
    assert names.index("pc") < names.index("vc")
