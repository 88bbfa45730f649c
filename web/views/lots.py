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

PositionKey = tuple[str, str, str]
"""Account, strategy and instrument."""


class Lots:
    """Positions folded from fills and corporate actions, and closed trades by strategy."""

    def __init__(self, instruments: dict[str, Instrument]) -> None:
        self._instruments = instruments
        self._positions: dict[PositionKey, Position] = {}
        self._trades: dict[tuple[str, str], TradeFold] = {}
        self._actions: dict[str, None] = {}

    def on_fill(self, fill: Fill) -> None:
        """Take in an execution."""
        key = (fill.account_id, fill.strategy_id, fill.instrument_id)
        multiplier = self._multiplier(fill.instrument_id)
        position = self._positions.get(key)
        if position is None:
            position = self._positions[key] = Position(multiplier)
        signed = fill.quantity if fill.side is Side.BUY else -fill.quantity
        position.apply_fill(signed, fill.price, fill.fee)
        self.trades_of(fill.account_id, fill.strategy_id).apply(fill, multiplier)

    def on_action(self, action: CorporateAction) -> None:
        """Take in a split or a new symbol; one that stands on two topics counts once."""
        if action.event_id in self._actions:
            return
        self._actions[action.event_id] = None
        if len(self._actions) > _ACTIONS_MAX:
            del self._actions[next(iter(self._actions))]
        for key in [key for key in self._positions if key[2] == action.instrument_id]:
            if action.kind is CorporateActionKind.SPLIT:
                self._split(self._positions[key], action)
            elif action.kind is CorporateActionKind.SYMBOL_CHANGE:
                self._rename(key, action)

    def on_position(self, change: PositionChanged) -> None:
        """Bring the open trade of a position onto the share count after a split."""
        if change.reason == CorporateActionKind.SPLIT.lower():
            trades = self.trades_of(change.account_id, change.strategy_id)
            trades.rescale(change.strategy_id, change.instrument_id, change.quantity)

    def of(self, key: PositionKey) -> list[tuple[Decimal, Decimal]]:
        """Return the open lots of a position as (signed quantity, price), the oldest first."""
        position = self._positions.get(key)
        return list(position.lots) if position is not None and position.quantity else []

    def trades_of(self, account_id: str, strategy_id: str) -> TradeFold:
        """Return the trades of a strategy in an account."""
        return self._trades.setdefault((account_id, strategy_id), TradeFold())

    def _split(self, position: Position, action: CorporateAction) -> None:
        instrument = self._instruments.get(action.instrument_id)
        increment = instrument.quantity_increment if instrument is not None else Decimal(1)
        position.apply_split(action.ratio, increment, position.average_price() / action.ratio)

    def _rename(self, key: PositionKey, action: CorporateAction) -> None:
        new_id = action.new_symbol
        old = self._instruments.get(action.instrument_id)
        if new_id not in self._instruments and old is not None:
            new_id = f"{new_id}.{old.venue}"
        position = self._positions.pop(key)
        known = self._positions.get((key[0], key[1], new_id))
        if known is not None:
            position.absorb(known)
        self._positions[key[0], key[1], new_id] = position

    def _multiplier(self, instrument_id: str) -> Decimal:
        instrument = self._instruments.get(instrument_id)
        return instrument.multiplier if instrument is not None else Decimal(1)
