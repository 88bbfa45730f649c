"""The demo's terminal screen: nothing is cut off on the narrowest terminal that is common."""

from __future__ import annotations

import io
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from rich.console import Console

from infra.screen import Screen
from schemas.control import StrategySignal
from streams.log import Published
from tests.unit.web_run import (
    START_NS,
    accepted,
    fill,
    filled,
    mark,
    position,
    quote,
    submit,
    trade,
)


def screen() -> Screen:
    """Return a screen of a run that stands still."""
    account = SimpleNamespace(cash=Decimal(10_000))
    config = SimpleNamespace(accounts=SimpleNamespace(accounts=[account]))
    live = SimpleNamespace(
        runner=SimpleNamespace(engine=SimpleNamespace(config=config)),
        feed=SimpleNamespace(played_events=237_568, now_ns=lambda: START_NS),
        total=373_608,
    )
    return Screen(cast(Any, live))


def shown(screen: Screen, width: int) -> str:
    """Return what stands on a terminal of ``width`` columns."""
    console = Console(width=width, file=io.StringIO(), color_system=None)
    with console.capture() as capture:
        console.print(screen.render())
    return capture.get()


@pytest.mark.parametrize("width", [80, 120])
def test_no_figure_is_cut_off(width: int) -> None:
    picture = screen()
    order = submit("momentum.SPY.22")
    signal = StrategySignal("s", START_NS, "c", "c", "momentum", "SPY.ARCX", -1.0, 1168.0251)
    records = [
        trade(1182.51),
        quote(1182.505, 1182.52),
        mark(9_658.4),
        signal,
        accepted(order),
        filled(order),
        fill("momentum.SPY.22", price="1165.1025"),
        msgspec.structs.replace(
            position("-1480"),
            realized_pnl=Decimal("-110192.71"),
            average_price=Decimal("1182.5519"),
        ),
    ]
    picture.apply([Published("", 0, i, record) for i, record in enumerate(records)])

    text = shown(picture, width)

    assert "…" not in text
    for figure in (
        "1,182.51 ", "1,182.5050", "1,168.0251", "1,165.1025", "1,182.5519", "-1,480",
        "-110,192.71", "ACCEPTED", "FILLED", "momentum.SPY.22", "237,568 / 373,608", "P&L -341.60",
    ):  # fmt: skip
        assert figure in text


def test_what_is_not_known_is_a_dash() -> None:
    picture = screen()
    picture.apply([Published("", 0, 0, trade(168.0))])

    assert shown(picture, 80).split("SPY", 1)[1].split("│")[0].split() == ["168.00", "-", "-"]
