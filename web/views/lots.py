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

    Older runs tell of a symbol change by one record: of the old name, with what is held, and none
    of the new name before its next fill. What is held stands under the new name here, and under
    the old one too until that fill, as such a run lists it.
    """

    def __init__(self, instruments: dict[str, Instrument]) -> None:
        self._instruments = instruments
        self._positions: dict[PositionKey, Position] = {}
        self._trades: dict[tuple[str, str], TradeFold] = {}
        self._actions: dict[str, CorporateAction] = {}
        self._held: dict[PositionKey, list[Fill | PositionChanged]] = {}
        self._moving: dict[tuple[str, str, str], Position | None] = {}
        self._renamed: dict[PositionKey, PositionKey] = {}
        self._last_told: dict[PositionKey, tuple[Decimal, Decimal]] = {}

    def fresh(self) -> Lots:
        """Return lots that know the same instruments and actions, and no fill yet."""
        found = Lots(self._instruments)
        found._actions.update(self._actions)
        return found

    def agrees(self, change: PositionChanged) -> bool:
        """Return whether a position came out of its fills as the account stage has it."""
        key = (change.account_id, change.strategy_id, change.instrument_id)
        position = self._positions.get(key, Position())
        found = self._last_told.get(key, (position.quantity, position.fees))
        return found == (change.quantity, change.fees)

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
        """Take in what a split or a symbol change is; positions say when it reaches them."""
        if action.kind not in (_SPLIT, _SYMBOL_CHANGE) or action.event_id in self._actions:
            return
        self._actions[action.event_id] = action
        if len(self._actions) > _ACTIONS_MAX:
            del self._actions[next(iter(self._actions))]
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
        new_id = None
        if change.reason == _SPLIT.lower():
            if key in self._held:
                self._hold(key, change)
            else:
                self._split(key, change)
        elif change.reason == _SYMBOL_CHANGE.lower():
            new_id = self._new_id(change)
            self._rename(key, change, new_id)
        else:
            return
        self.trades_of(change.account_id, change.strategy_id).on_position(change, new_id)

    def of(self, key: PositionKey) -> list[tuple[Decimal, Decimal]]:
        """Return the open lots of a position as (signed quantity, price), the oldest first."""
        position = self._positions.get(self._renamed.get(key, key))
        return list(position.lots) if position is not None and position.quantity else []

    def trades_of(self, account_id: str, strategy_id: str) -> TradeFold:
        """Return the trades of a strategy in an account."""
        return self._trades.setdefault((account_id, strategy_id), TradeFold())

    def _fill(self, key: PositionKey, fill: Fill) -> None:
        self._tell(key)
        position = self._positions.get(key)
        if position is None:
            position = self._positions[key] = Position(self._multiplier(fill.instrument_id))
        signed = fill.quantity if fill.side is Side.BUY else -fill.quantity
        position.apply_fill(signed, fill.price, fill.fee)

    def _split(self, key: PositionKey, change: PositionChanged) -> None:
        """Split a position; one whose split is not known yet waits for it, with what follows."""
        action = self._actions.get(change.causation_id)
        if action is None:
            self._held[key] = [change]
            return
        self._tell(key)
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

    def _rename(self, key: PositionKey, change: PositionChanged, new_id: str | None) -> None:
        """Take a position from its old name (the first record of a change) to the new one.

        A first record with something left in it is the only one, and ``new_id`` the new name; one
        that is not known leaves the position where it is.
        """
        move = (key[0], key[1], change.causation_id)
        if move in self._moving:
            self._tell(key)
            self._move(self._moving.pop(move), key)
        elif not change.quantity:
            self._tell(key)
            self._moving[move] = self._positions.pop(key, None)
        elif new_id is not None and new_id != key[2]:
            self._rename_old_form(key, (key[0], key[1], new_id))

    def _rename_old_form(self, old: PositionKey, new: PositionKey) -> None:
        """Take a position to a name of which no record will tell before its next fill."""
        self._tell(old)
        known = self._positions.get(new)
        if known is not None:
            self._last_told.setdefault(new, (known.quantity, known.fees))
        self._move(self._positions.pop(old, None), new)
        position = self._positions.get(new, Position())
        self._last_told[old] = (position.quantity, position.fees)
        self._renamed[old] = new

    def _move(self, position: Position | None, key: PositionKey) -> None:
        if position is None:
            return
        known = self._positions.get(key)
        if known is not None:
            position.absorb(known)
        self._positions[key] = position

    def _tell(self, key: PositionKey) -> None:
        """Know that the records of a position tell of it again, whatever it was named before."""
        if not self._renamed and not self._last_told:
            return
        self._last_told.pop(key, None)
        self._renamed.pop(key, None)
        for old in [old for old, new in self._renamed.items() if new == key]:
            del self._renamed[old]

    def _new_id(self, change: PositionChanged) -> str | None:
        """Return the instrument that a symbol change leads to, by its id or at the same venue."""
        action = self._actions.get(change.causation_id)
        old = self._instruments.get(change.instrument_id)
        if action is None:
            return None
        names = [action.new_symbol, f"{action.new_symbol}.{old.venue}" if old is not None else ""]
        return next((name for name in names if name in self._instruments), None)

    def _multiplier(self, instrument_id: str) -> Decimal:
        instrument = self._instruments.get(instrument_id)
        return instrument.multiplier if instrument is not None else Decimal(1)
