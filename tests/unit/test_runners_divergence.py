"""Backtest against live: the class of each fill that differs, and the data that it runs on."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from agents.runners.divergence import (
    FILL_MODEL,
    LATE,
    LATENCY,
    OPERATOR,
    ORDER,
    OTHER,
    ROUNDING,
    Disturbances,
    Divergence,
    backtest_against_live,
    compare_fills,
)
from agents.runners.engine import Engine
from agents.strategy.builtin import BUILTIN
from schemas.commands import SubmitOrder
from schemas.control import StrategyCommand
from schemas.enums import LiquiditySide, Side, StrategyAction
from schemas.envelope import Header
from schemas.order_events import Fill
from schemas.topics import ACCOUNT_INPUTS, STRATEGY_INPUTS
from streams.journal import JournalReader
from tests.generated import universe
from tests.simulation.live_process import engine_config
from tests.unit.test_runners_parity import EVENTS, runner_of

UNIVERSE = universe(("GEN", "OTH"))


def make_fill(number: int = 1, **changes: object) -> Fill:
    fill = Fill(
        event_id=f"f{number}",
        ts_event_ns=1_000 * number,
        correlation_id="",
        causation_id="",
        account_id="paper",
        strategy_id="cross",
        client_order_id=f"o{number}",
        instrument_id="GEN.XXXX",
        venue_order_id="",
        trade_id=f"t{number}",
        side=Side.BUY,
        quantity=Decimal(10),
        price=Decimal("100.00"),
        fee=Decimal("1.00"),
        currency="USD",
        liquidity_side=LiquiditySide.TAKER,
        reference_price=Decimal("100.00"),
        leaves_quantity=Decimal(0),
    )
    return msgspec.structs.replace(fill, **changes)


def late(instrument_id: str, at_ns: int) -> Disturbances:
    found = Disturbances()
    found.late[instrument_id] = at_ns
    return found


def commanded(scope: str, at_ns: int) -> Disturbances:
    found = Disturbances()
    found.scopes[scope] = at_ns
    return found


LIVE = make_fill()


@pytest.mark.parametrize(
    ("backtest", "found", "name"),
    [
        (make_fill(ts_event_ns=1_001, price=Decimal(90)), Disturbances(), LATENCY),
        (make_fill(price=Decimal("100.004")), Disturbances(), ROUNDING),
        (make_fill(fee=Decimal("1.005")), Disturbances(), ROUNDING),
        (make_fill(price=Decimal("100.01")), Disturbances(), FILL_MODEL),
        (make_fill(quantity=Decimal(9)), Disturbances(), FILL_MODEL),
        (make_fill(price=Decimal("100.004"), side=Side.SELL), Disturbances(), FILL_MODEL),
        (None, late("GEN.XXXX", 1_000), LATE),
        (None, late("GEN.XXXX", 1_001), OTHER),
        (None, late("OTH.XXXX", 1_000), ORDER),
        (None, Disturbances(), OTHER),
        (None, commanded("paper", 1_000), OPERATOR),
        (None, commanded("cross", 900), OPERATOR),
        (None, commanded("", 900), OPERATOR),
        (None, commanded("paper", 1_001), OTHER),
        (None, commanded("another", 900), OTHER),
        (make_fill(ts_event_ns=1_001), commanded("paper", 1_000), OPERATOR),
    ],
)
def test_difference_has_its_class_with_the_fill_as_example(
    backtest: Fill | None, found: Disturbances, name: str
) -> None:
    other = {} if backtest is None else {("o1", 0): backtest}
    result = compare_fills({("o1", 0): LIVE}, other, found, UNIVERSE)
    assert {key: item for key, item in result.classes.items() if item.fills} == {
        name: (1, LIVE, backtest)
    }
    assert (result.fills_live, result.fills_backtest, result.equal) == (1, len(other), 0)


def test_first_example_is_the_earliest_and_equal_fills_are_no_difference() -> None:
    live = {(f"o{n}", 0): make_fill(n) for n in (1, 2, 10)}
    backtest = {
        ("o1", 0): make_fill(1),
        ("o2", 0): make_fill(2, price=Decimal(90)),
        ("o10", 0): make_fill(10, price=Decimal(90)),
    }
    result = compare_fills(live, backtest, Disturbances(), UNIVERSE)
    assert result.equal == 1
    assert result.classes[FILL_MODEL] == (2, make_fill(2), backtest["o2", 0])


async def play(folder: Path, commands: list[tuple[str, Header]]) -> JournalReader:
    """Play a session with a split and a dividend; commands come in its sixth turn."""
    runner = runner_of(folder)
    for _ in range(5):
        runner.turn()
    waiting = [asyncio.create_task(runner.publish(*command)) for command in commands]
    await asyncio.sleep(0)
    while runner.turn():
        pass
    await asyncio.gather(*waiting)
    runner.finish()
    runner.close()
    return JournalReader(folder)


def against(reader: JournalReader) -> Divergence:
    """Run a backtest of the session's data against it."""
    instruments = reader.universe()
    engine = Engine(engine_config(), instruments, {}, BUILTIN)
    found = backtest_against_live(reader, instruments, engine)
    assert engine.events == EVENTS
    return found


def test_session_without_commands_is_equal_with_its_corporate_actions(tmp_path: Path) -> None:
    result = against(asyncio.run(play(tmp_path, [])))
    assert result.fills_live > 10
    assert result.equal == result.fills_live == result.fills_backtest
    assert not any(item.fills for item in result.classes.values())


def test_fill_of_an_order_from_outside_is_an_operator_action(tmp_path: Path) -> None:
    order = SubmitOrder(
        event_id="c1",
        ts_event_ns=0,
        correlation_id="",
        causation_id="",
        account_id="paper",
        strategy_id="",
        client_order_id="by-hand",
        instrument_id="GEN.XXXX",
        side=Side.BUY,
        quantity=Decimal(3),
    )
    result = against(asyncio.run(play(tmp_path, [(ACCOUNT_INPUTS, order)])))
    found = result.classes[OPERATOR]
    assert found.live is not None
    assert (found.live.client_order_id, found.backtest) == ("by-hand", None)
    assert sum(item.fills for item in result.classes.values()) == found.fills


def test_fills_that_a_stopped_strategy_did_not_get_are_operator_actions(tmp_path: Path) -> None:
    stop = StrategyCommand(
        event_id="c1",
        ts_event_ns=0,
        correlation_id="",
        causation_id="",
        strategy_id="cross",
        action=StrategyAction.STOP,
        operator="me",
    )
    result = against(asyncio.run(play(tmp_path, [(STRATEGY_INPUTS, stop)])))
    found = result.classes[OPERATOR]
    assert found.fills > 0
    assert found.fills == sum(item.fills for item in result.classes.values())
