"""Accounts at the paper venue: each chooses the ids of its orders, and none touches another's."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from agents.venue.config import Latency, VenueConfig
from schemas.envelope import Header
from schemas.order_events import VenueAccepted, VenueCanceled, VenueRejected, VenueReport
from tests.unit.venue_script import (
    HOUR,
    A,
    B,
    Command,
    Event,
    Mark,
    Player,
    Trade,
    cancel,
    replace,
    submit,
)

LATENCIES = [Latency(), Latency(2, 3, 4)]


def of_account(command: Command, account_id: str) -> Command:
    """Return the same command of another account."""
    event_id = f"{account_id}-{command.event_id}"
    return msgspec.structs.replace(command, account_id=account_id, event_id=event_id)


def script() -> list[Event | Command]:
    """Return a script whose orders meet all that an order may meet, by id and time."""
    return [
        Trade(10, 1000),
        submit("fills"),
        submit("day", limit="9.00", tif="DAY"),
        submit("stop", "SELL", stop="9.50"),
        submit("canceled", limit="8.00"),
        submit("passive", limit="9.90", is_post_only=True),
        Trade(20, 1001),
        replace("stop", "5", stop="9.60"),
        cancel("canceled"),
        submit("fills", event_id="again"),
        Trade(30, 1002),
        submit("exit", "SELL", "10", is_reduce_only=True),
        Trade(40, 955),
        Trade(50, 940),
        cancel("fills", event_id="late"),
        Mark(40 * HOUR),
    ]


def told(records: list[Header], account_id: str) -> list[dict[str, Any]]:
    """Return the reports of one account without what only a name of the account can change."""
    found = []
    for record in records:
        values = msgspec.structs.asdict(record)
        if values["account_id"] == account_id:
            del values["account_id"], values["event_id"], values["causation_id"]
            values.pop("trade_id", None)
            values["venue_order_id"] = values["venue_order_id"].replace(account_id, "")
            found.append(values)
    return found


@pytest.mark.parametrize("latency", LATENCIES, ids=["none", "some"])
@pytest.mark.parametrize("is_cut", [False, True], ids=["whole", "cut"])
def test_orders_of_two_accounts_with_the_same_ids_live_apart(
    latency: Latency, is_cut: bool
) -> None:
    alone, both = Player(VenueConfig(latency=latency)), Player(VenueConfig(latency=latency))
    steps: list[Event | Command] = []
    for step in script():
        if isinstance(step, Event):
            steps.append(step)
        else:
            steps += [of_account(step, "first"), of_account(step, "second")]

    expected = alone.play([s if isinstance(s, Event) else of_account(s, "first") for s in script()])
    if is_cut:
        records: list[Header] = []
        for step in steps:
            if isinstance(step, Event):
                both.restart()
            records += both.play([step])
    else:
        records = both.play(steps)

    assert told(records, "first") == told(records, "second") == told(expected, "first")
    ids = [record.event_id for record in records if isinstance(record, VenueReport)]
    assert len(ids) == len(set(ids))
    assert {type(r).__name__ for r in records} >= {"Fill", "VenueExpired", "VenueReplaced"}


def test_second_order_of_an_id_is_refused_to_the_account_that_had_it() -> None:
    player = Player()

    records = player.play(
        [Trade(10, 1000), submit("x"), of_account(submit("x"), "other"), submit("x", event_id="y")]
    )

    refused = [record for record in records if isinstance(record, VenueRejected)]
    assert [(r.account_id, r.code) for r in refused] == [("paper", "DUPLICATE_ORDER_ID")]


def test_names_of_orders_at_the_venue_are_told_apart_whatever_hyphens_they_have() -> None:
    orders = [of_account(submit("b-x"), "a"), of_account(submit("x"), "a-b")]

    records = Player().play([Trade(10, 1000), *orders])

    names = {r.venue_order_id for r in records if isinstance(r, VenueAccepted)}
    assert names == {"paper-a|b-x", "paper-a-b|x"}


def test_cancel_takes_out_the_order_of_its_own_account_alone() -> None:
    player = Player()
    orders = [submit("x", limit="9.00"), of_account(submit("x", limit="9.00", name=B), "other")]

    records = player.play([Trade(10, 1000), *orders, cancel("x")])

    (canceled,) = [record for record in records if isinstance(record, VenueCanceled)]
    assert (canceled.account_id, canceled.instrument_id) == ("paper", A)
