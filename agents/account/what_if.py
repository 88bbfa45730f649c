"""What the gate would say to an order: the checks alone, without a trace in the account.

The question is a record of the account's input, so its answer belongs to one place of it: with the
positions, working orders, rates and marks that an order at that place would have met.
"""

from __future__ import annotations

from collections.abc import Mapping

from agents.account.gate import Gate, named
from agents.account.state import Account
from agents.processor import Outbox
from schemas.commands import CheckOrder, OrderChecked
from schemas.identifiers import derived_id
from schemas.topics import ORDER_RECEIPTS

_APPROVED = ("", "", "", "", "")


def check_order(
    gate: Gate,
    accounts: Mapping[str, Account],
    command: CheckOrder,
    now_ns: int,
    out: Outbox,
) -> None:
    """Publish the gate's answer to a question."""
    order = command.order
    account = accounts.get(command.account_id)
    found: tuple[str, str, str, str, str] = _APPROVED
    if account is None:
        found = ("ACCOUNT_UNKNOWN", command.account_id, "a known account", "", "")
    elif order.client_order_id in account.orders:
        found = ("ORDER_ID_USED", order.client_order_id, "a new client order id", "order", "")
    else:
        verdict = gate.judge_apart(account, order, now_ns)
        if verdict.denial is not None:
            found = verdict.denial
        elif verdict.in_the_way:
            found = ("", "", "", "", f"takes the place of {named(verdict.in_the_way)}")
    answer = OrderChecked(
        derived_id(f"account:{command.account_id}", command.event_id, 0),
        now_ns,
        command.correlation_id,
        command.event_id,
        command.account_id,
        order.strategy_id,
        order.client_order_id,
        order.instrument_id,
        not found[0],
        gate.breakers.epoch,
        gate.autonomy,
        *found,
    )
    out.append((ORDER_RECEIPTS, answer))
