"""Dividends that positions were paid; a short position pays them."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from schemas.enums import CorporateActionKind
from schemas.instruments import CorporateAction, Instrument
from schemas.portfolio import PositionChanged
from schemas.values import ONE, ZERO

_DIVIDEND = CorporateActionKind.DIVIDEND


class Dividends:
    """What was paid by account, strategy and currency.

    The action says how much a share is paid, the change of a position that it caused how many
    shares were held. They stand on different topics, so either may come first. Not ``is_whole``:
    these are rows of a database, and some may be gone; only an account's marks can say.
    """

    def __init__(self, instruments: Mapping[str, Instrument]) -> None:
        self._instruments = instruments
        self.is_whole = True
        self._actions: dict[str, CorporateAction] = {}
        self._waiting: dict[str, list[PositionChanged]] = {}
        self._paid: dict[tuple[str, str], dict[str, Decimal]] = {}

    def on_action(self, action: CorporateAction) -> None:
        """Take in a dividend; one that stands on two topics counts once, other actions never."""
        if action.kind is not _DIVIDEND or action.event_id in self._actions:
            return
        self._actions[action.event_id] = action
        for change in self._waiting.pop(action.event_id, ()):
            self._pay(change, action)

    def on_position(self, change: PositionChanged) -> None:
        """Take in how many shares a dividend was paid on; other changes are passed over."""
        if change.reason != _DIVIDEND.lower():
            return
        action = self._actions.get(change.causation_id)
        if action is None:
            self._waiting.setdefault(change.causation_id, []).append(change)
        else:
            self._pay(change, action)

    def are_known(self, account_id: str, strategy_id: str) -> bool:
        """Return whether no dividend of an account, or of a strategy in it, waits for its amount.

        An empty strategy stands for all of them.
        """
        return not any(
            change.account_id == account_id and strategy_id in ("", change.strategy_id)
            for changes in self._waiting.values()
            for change in changes
        )

    def of(self, account_id: str, strategy_id: str) -> dict[str, Decimal]:
        """Return by currency what a strategy's positions were paid."""
        return dict(self._paid.get((account_id, strategy_id), {}))

    def _pay(self, change: PositionChanged, action: CorporateAction) -> None:
        instrument = self._instruments.get(action.instrument_id)
        multiplier = instrument.multiplier if instrument is not None else ONE
        paid = self._paid.setdefault((change.account_id, change.strategy_id), {})
        amount = change.quantity * action.amount * multiplier
        paid[action.currency] = paid.get(action.currency, ZERO) + amount
