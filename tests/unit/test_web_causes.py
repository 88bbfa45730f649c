"""The order of a chain of causes."""

from __future__ import annotations

from msgspec import structs

from schemas import topics as t
from schemas.envelope import Header
from streams.log import Published
from tests.unit.web_run import fill, submit, submitted
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
