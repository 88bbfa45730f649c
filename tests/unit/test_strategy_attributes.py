"""Attributes of a strategy survive a restart as they are, whatever a quant keeps in them."""

from __future__ import annotations

import json
import math
from collections import deque
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from agents.domain.indicators import SMA
from agents.strategy.api import Strategy
from agents.strategy.attributes import saved, set_again
from agents.strategy.parameters import parameter
from schemas.errors import ConfigError


class Keeper(Strategy):
    """Keeps what the test gives it, and indicators by instrument."""

    window: int = parameter(3, minimum=1)

    def on_start(self) -> None:
        """Make the indicators."""
        self.averages = {"A": SMA(3), "B": SMA(3)}
        self.pair = [SMA(2), SMA(4)]


def keeper() -> Keeper:
    """Return a strategy after its start."""
    made = Keeper({"window": 3, "quantity": 0.0, "weight": 1.0})
    made.on_start()
    return made


def restarted(strategy: Keeper) -> Keeper:
    """Return a new strategy with the attributes of ``strategy``, by way of JSON."""
    again = keeper()
    set_again(again, json.loads(json.dumps(saved(strategy), allow_nan=False)))
    return again


@pytest.mark.parametrize(
    "value",
    [
        True, 3, 2.5, "text", None, Decimal("1.10"), (1, (2, "x")), {1, 5, 3}, [1, [2.5, None]],
        deque([1, 2], maxlen=5), {"a": {"b": [1]}}, {3: "x", (1, 2): Decimal(7)}, {"$state": 1},
        math.inf, {"$float": "text"}, deque([(1, 2.0)]), {},
    ],
)  # fmt: skip
def test_attribute_is_as_it_was(value: Any) -> None:
    strategy = keeper()
    strategy.kept = value  # type: ignore[attr-defined]
    again = restarted(strategy).kept  # type: ignore[attr-defined]
    assert again == value
    assert type(again) is type(value)
    if isinstance(value, deque):
        assert again.maxlen == value.maxlen


@pytest.mark.parametrize(
    "array", [np.arange(6).reshape(2, 3), np.array([1.5, math.nan]), np.array([True, False])]
)
def test_array_is_as_it_was(array: Any) -> None:
    strategy = keeper()
    strategy.kept = array  # type: ignore[attr-defined]
    again = restarted(strategy).kept  # type: ignore[attr-defined]
    np.testing.assert_array_equal(again, array)
    assert again.dtype == array.dtype


def test_indicators_in_containers_go_on_where_they_were() -> None:
    strategy = keeper()
    for indicator in (*strategy.averages.values(), *strategy.pair):
        indicator.update(np.array([10, 20, 40]))
    again = restarted(strategy)
    for one, other in (
        (strategy.averages["B"], again.averages["B"]),
        (strategy.pair[1], again.pair[1]),
    ):
        assert one is not other
        assert one.update(np.array([70])).tolist() == other.update(np.array([70])).tolist()


def test_what_cannot_be_saved_is_named() -> None:
    strategy = keeper()
    strategy.kept = {"file": [object()]}  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"Keeper.kept\['file'\]\[0\]"):
        saved(strategy)
