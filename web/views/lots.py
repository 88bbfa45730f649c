"""Open lots of every position, first in first out: fills folded as the account stage folds them."""

from __future__ import annotations

from decimal import Decimal

from agents.domain.metrics import TradeFold
from agents.domain.position import Position
from schemas.enums import CorporateActionKind, Side
from schemas.instruments import CorporateAction, Instrument
from schemas.order_events import Fill
from schemas.portfolio import PositionChanged

_ACTIONS_MAX = 10_000
_HELD_MAX = 10_000
_SPLIT = CorporateActionKind.SPLIT
_SYMBOL_CHANGE = CorporateActionKind.SYMBOL_CHANGE

PositionKey = tuple[str, str, str]
"""Account, strategy and instrument."""


class Lots:
    """Positions folded from fills and corporate actions, and closed trades by strategy.

    Where a corporate action stands among the fills of a position, the changes of that position say:
    the action itself may be told of much earlier, and each account comes to it in its own time.
    """

    def __init__(self, instruments: dict[str, Instrument]) -> None:
        self._instruments = instruments
        self._positions: dict[PositionKey, Position] = {}
        self._trades: dict[tuple[str, str], TradeFold] = {}
        self._splits: dict[str, CorporateAction] = {}
        self._held: dict[PositionKey, list[Fill | PositionChanged]] = {}
        self._moving: dict[tuple[str, str, str], Position | None] = {}

    def fresh(self) -> Lots:
        """Return lots that know the same instruments and splits, and no fill yet."""
        found = Lots(self._instruments)
        found._splits.update(self._splits)
        return found

    def agrees(self, change: PositionChanged) -> bool:
        """Return whether a position came out of its fills as the account stage has it."""
        position = self._positions.get(
            (change.account_id, change.strategy_id, change.instrument_id), Position()
        )
        return (position.quantity, position.fees) == (change.quantity, change.fees)

    def on_fill(self, fill: Fill) -> None:
        """Take in an execution."""
        self.trades_of(fill.account_id, fill.strategy_id).apply(
            fill, self._multiplier(fill.instrument_id)
        )
        key = (fill.account_id, fill.strategy_id, fill.instrument_id)
        if key in self._held:
            self._hold(key, fill)
        else:
            self._fill(key, fill)

    def on_action(self, action: CorporateAction) -> None:
        """Take in what a split is; the changes of positions say when it reaches them."""
        if action.kind is not _SPLIT or action.event_id in self._splits:
            return
        self._splits[action.event_id] = action
        if len(self._splits) > _ACTIONS_MAX:
            del self._splits[next(iter(self._splits))]
        waiting = [k for k, held in self._held.items() if held[0].causation_id == action.event_id]
        for key in waiting:
            for item in self._held.pop(key):
                if key in self._held:
                    self._hold(key, item)  # behind another split that is not known yet
                elif isinstance(item, Fill):
                    self._fill(key, item)
                else:
                    self._split(key, item)

    def on_position(self, change: PositionChanged) -> None:
        """Bring a position and its open trade behind a split or under a new name."""
        key = (change.account_id, change.strategy_id, change.instrument_id)
        if change.reason == _SPLIT.lower():
            if key in self._held:
                self._hold(key, change)
            else:
                self._split(key, change)
        elif change.reason == _SYMBOL_CHANGE.lower():
            self._rename(key, change.causation_id)
        else:
            return
        self.trades_of(change.account_id, change.strategy_id).on_position(change)

    def of(self, key: PositionKey) -> list[tuple[Decimal, Decimal]]:
        """Return the open lots of a position as (signed quantity, price), the oldest first."""
        position = self._positions.get(key)
        return list(position.lots) if position is not None and position.quantity else []

    def trades_of(self, account_id: str, strategy_id: str) -> TradeFold:
        """Return the trades of a strategy in an account."""
        return self._trades.setdefault((account_id, strategy_id), TradeFold())

    def _fill(self, key: PositionKey, fill: Fill) -> None:
        position = self._positions.get(key)
        if position is None:
            position = self._positions[key] = Position(self._multiplier(fill.instrument_id))
        signed = fill.quantity if fill.side is Side.BUY else -fill.quantity
        position.apply_fill(signed, fill.price, fill.fee)

    def _split(self, key: PositionKey, change: PositionChanged) -> None:
        """Split a position; one whose split is not known yet waits for it, with what follows."""
        action = self._splits.get(change.causation_id)
        if action is None:
            self._held[key] = [change]
            return
        position = self._positions.get(key)
        if position is None:
            return
        instrument = self._instruments.get(action.instrument_id)
        increment = instrument.quantity_increment if instrument is not None else Decimal(1)
        position.apply_split(action.ratio, increment, position.average_price() / action.ratio)

    def _hold(self, key: PositionKey, item: Fill | PositionChanged) -> None:
        held = self._held[key]
        if len(held) < _HELD_MAX:
            # What is more is given up: the sum of the lots shows that they are not whole.
            held.append(item)

    def _rename(self, key: PositionKey, cause: str) -> None:
        """Take a position from its old name (the first record of a change) to the new one."""
        move = (key[0], key[1], cause)
        if move not in self._moving:
            self._moving[move] = self._positions.pop(key, None)
            return
        position = self._moving.pop(move)
        known = self._positions.get(key)
        if position is None:
            return
        if known is not None:
            position.absorb(known)
        self._positions[key] = position

    def _multiplier(self, instrument_id: str) -> Decimal:
        instrument = self._instruments.get(instrument_id)
        return instrument.multiplier if instrument is not None else Decimal(1)
