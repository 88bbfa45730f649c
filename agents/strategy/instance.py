"""One strategy at work: targets and wishes become order commands, feedback becomes its view.

An instance of the array form works on one instrument; an instance of the event form on all of its
strategy's. An error in the author's code fails the strategy, not the run: it gets no more data and
sends no more orders until somebody starts it again. Its working orders stay, a stop among them may
be what protects its position.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import ROUND_FLOOR, Decimal
from typing import Any

import numpy as np

from agents.domain.position import settled
from agents.processor import Outbox
from agents.strategy import attributes
from agents.strategy.api import Series, Strategy, View, Wish
from agents.strategy.config import StrategyConfig
from agents.strategy.failures import problem_of, told
from agents.strategy.making_up import order_after
from agents.strategy.parameters import ParameterValue
from agents.strategy.saved import InstanceState
from schemas.columns import Floats
from schemas.commands import CancelOrder, SubmitOrder
from schemas.enums import Side, StrategyStatus
from schemas.envelope import Header
from schemas.errors import MillraceError
from schemas.identifiers import derived_base
from schemas.instruments import Instrument, Universe
from schemas.order_events import Fill, OrderEvent, OrderReplaced
from schemas.topics import ACCOUNT_INPUTS
from schemas.values import MONEY_CONTEXT, ZERO, on_share_count

_BUY, _SELL = Side.BUY, Side.SELL


class Instance:
    """A strategy with its instruments, orders and status."""

    def __init__(
        self,
        strategy: Strategy,
        config: StrategyConfig,
        instruments: list[Instrument],
        universe: Universe,
        label: str,
    ) -> None:
        self.strategy = strategy
        self.config = config
        self.failure: MillraceError | None = None
        self.on_failure: Callable[[Instance], None] | None = None
        self.strategy_id = config.strategy_id
        self.producer = f"strategy:{config.strategy_id}:{label}"
        self.is_array = type(strategy).signals is not Strategy.signals
        capital = config.capital
        if self.is_array:
            # It runs once for each instrument, each with its share of the capital.
            capital = MONEY_CONTEXT.divide(capital, Decimal(len(config.instrument_ids)))
        self.view = View(instruments, capital, f"{config.strategy_id}.{label}.")
        strategy._view = self.view
        self.status = StrategyStatus.WARMING_UP if config.trade_from_ns else StrategyStatus.RUNNING
        self.last_target: float | None = None
        self.timers: list[int] = []
        self.indexes: list[int] = []
        self._price_grids = {}
        self._quantity_grids = {}
        for instrument in instruments:
            index = universe.index(instrument.instrument_id)
            assert index is not None  # the composition root chose it from the universe
            self.indexes.append(index)
            self._price_grids[instrument.instrument_id] = universe.price_grids[index]
            self._quantity_grids[instrument.instrument_id] = universe.quantity_grids[index]
        self._start()

    @property
    def is_on_bars(self) -> bool:
        """Return whether bars drive it, not single events."""
        return self.config.on not in ("trade", "quote")

    # ---- the author's code

    def call(self, hook: Callable[..., Any], *args: object) -> Any:
        """Call a hook of the author's; an error in it fails the strategy, not the run."""
        if self.status is StrategyStatus.FAILED:
            return None
        try:
            return hook(*args)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the author's code may raise anything
            self.fail(told(self.strategy, self.config, error))
            return None

    def signals(self, series: Series) -> Floats | None:
        """Return the targets of the array form (float64, of the series' length); None if it failed.

        A target is NaN or within TARGET_MAX.
        """
        targets = self.call(lambda: np.asarray(self.strategy.signals(series), np.float64))
        if targets is None:
            return None
        problem = problem_of(self.config.short_name, targets, len(series))
        if problem is not None:
            self.fail(problem)
            return None
        return targets  # type: ignore[no-any-return]

    def fail(self, error: MillraceError) -> None:
        """Let the strategy do nothing any more, because of ``error``."""
        self.status = StrategyStatus.FAILED
        self.failure = error
        self.view.wishes.clear()
        if self.on_failure is not None:
            self.on_failure(self)

    def _start(self) -> None:
        """Call ``on_start``; what fails there has never run, so it is an error of the caller."""
        try:
            self.strategy.on_start()
        except (Exception, SystemExit) as error:
            raise told(self.strategy, self.config, error) from error
        # Better now than at the first snapshot of a live run.
        attributes.saved(self.strategy)

    def start_anew(self) -> None:
        """Let the strategy run again; one that failed begins from scratch."""
        if self.status is StrategyStatus.FAILED:
            self._start()
            self.failure = None
        self.status = StrategyStatus.RUNNING
        self.last_target = None

    # ---- prices

    def see_price(self, instrument_id: str, price: float) -> Decimal:
        """Note the price that a decision is made on and return it on the grid."""
        grid = self._price_grids[instrument_id]
        seen = grid.nearest(price)
        self.view.prices[instrument_id] = seen
        return seen

    # ---- orders

    def is_trading(self, now_ns: int) -> bool:
        """Return whether orders go out at ``now_ns``; a warm-up ends by time."""
        if self.status is StrategyStatus.WARMING_UP and now_ns >= self.config.trade_from_ns:
            self.status = StrategyStatus.RUNNING
        return self.status is StrategyStatus.RUNNING

    def trade_to(
        self,
        instrument_id: str,
        exposure: float,
        price: float,
        now_ns: int,
        ts_ns: int,
        base: str,
        cause: str,
        out: Outbox,
    ) -> None:
        """Order what brings position and working orders to ``exposure`` (1 is the full size)."""
        view = self.view
        view.now_ns = now_ns
        seen = self.see_price(instrument_id, price)
        wanted = self._size(instrument_id, exposure, seen)
        change = wanted - view.positions[instrument_id] - view.working[instrument_id]
        if change:
            view.next_order += 1
            self._submit(
                base,
                0,
                cause,
                instrument_id,
                _BUY if change > 0 else _SELL,
                abs(change),
                f"{view.prefix}{view.next_order}",
                now_ns,
                price,
                ts_ns,
                out,
            )

    def _size(self, instrument_id: str, exposure: float, price: Decimal) -> Decimal:
        """Return the signed quantity of an exposure, in whole units of the grid."""
        strategy = self.strategy
        grid = self._quantity_grids[instrument_id]
        if strategy.quantity > 0:
            units = grid.to_unit(strategy.quantity * exposure)
            return grid.to_decimal(units)
        if exposure == 0 or price <= 0:
            return ZERO
        value = self.view.equity() * Decimal(repr(strategy.weight * abs(exposure)))
        if value <= 0:
            return ZERO
        multiplier = self.view.instruments[instrument_id].multiplier
        size = grid.floor(MONEY_CONTEXT.divide(value, price * multiplier))
        return size if exposure > 0 else -size

    def _submit(
        self,
        base: str,
        ordinal: int,
        cause: str,
        instrument_id: str,
        side: Side,
        quantity: Decimal,
        order_id: str,
        now_ns: int,
        price: float,
        ts_ns: int,
        out: Outbox,
        wish: Wish | None = None,
    ) -> None:
        config = self.config
        view = self.view
        view.open_orders[order_id] = (instrument_id, quantity if side is _BUY else -quantity)
        view.working[instrument_id] += quantity if side is _BUY else -quantity
        if wish is None:
            command = SubmitOrder(
                f"{base}-{ordinal}",
                now_ns,
                order_id,
                cause,
                config.account_id,
                config.strategy_id,
                order_id,
                instrument_id,
                side,
                quantity,
                decision_price=price,
                decision_ts_ns=ts_ns,
            )
        else:
            command = SubmitOrder(
                f"{base}-{ordinal}",
                now_ns,
                order_id,
                cause,
                config.account_id,
                config.strategy_id,
                order_id,
                instrument_id,
                side,
                quantity,
                wish.order_type,
                wish.limit_price,
                wish.stop_price,
                wish.time_in_force,
                wish.is_post_only,
                wish.is_reduce_only,
                price,
                ts_ns,
            )
        out.append((ACCOUNT_INPUTS, command))

    def carry_out(self, now_ns: int, ts_ns: int, cause: str, out: Outbox) -> None:
        """Turn the wishes of the last callback into commands.

        While not trading they are withheld.
        """
        wishes, self.view.wishes = self.view.wishes, []
        is_trading = self.is_trading(now_ns)
        base = derived_base(self.producer, cause)
        for ordinal, wish in enumerate(wishes):
            if wish.kind == "timer":
                self.timers.append(wish.due_ns)
                self.timers.sort()
            elif is_trading:
                self._carry_out(wish, base, ordinal, now_ns, ts_ns, cause, out)

    def _carry_out(
        self, wish: Wish, base: str, ordinal: int, now_ns: int, ts_ns: int, cause: str, out: Outbox
    ) -> None:
        view = self.view
        if wish.kind == "cancel":
            if wish.client_order_id in view.open_orders:
                out.append(
                    (
                        ACCOUNT_INPUTS,
                        CancelOrder(
                            f"{base}-{ordinal}",
                            now_ns,
                            wish.client_order_id,
                            cause,
                            self.config.account_id,
                            self.config.strategy_id,
                            wish.client_order_id,
                            "strategy",
                        ),
                    )
                )
            return
        instrument_id = wish.instrument_id
        seen = view.prices.get(instrument_id)
        price = 0.0 if seen is None else float(seen)
        if wish.kind == "order":
            self._submit(
                base,
                ordinal,
                cause,
                instrument_id,
                wish.side,
                wish.quantity,
                wish.client_order_id,
                now_ns,
                price,
                ts_ns,
                out,
                wish,
            )
            return
        wanted = wish.quantity
        if wish.kind == "target_weight":
            if seen is None:
                return
            multiplier = view.instruments[instrument_id].multiplier
            size = MONEY_CONTEXT.divide(view.equity() * abs(wanted), seen * multiplier)
            size = self._quantity_grids[instrument_id].floor(
                size.to_integral_value(ROUND_FLOOR) if size > 1 else size
            )
            wanted = size if wanted >= 0 else -size
        change = wanted - view.positions[instrument_id] - view.working[instrument_id]
        if change:
            view.next_order += 1
            self._submit(
                base,
                ordinal,
                cause,
                instrument_id,
                _BUY if change > 0 else _SELL,
                abs(change),
                f"{view.prefix}{view.next_order}",
                now_ns,
                price,
                ts_ns,
                out,
            )

    # ---- feedback

    def on_feedback(self, record: Header, now_ns: int, out: Outbox) -> None:
        """Take a fill, or the end of an order, into the view; a fill calls the strategy."""
        view = self.view
        if isinstance(record, Fill):
            signed = record.quantity if record.side is _BUY else -record.quantity
            instrument_id = record.instrument_id
            view.positions[instrument_id] += signed
            multiplier = view.instruments[instrument_id].multiplier
            view.cash -= signed * record.price * multiplier + record.fee
            known = view.open_orders.get(record.client_order_id)
            if known is not None:
                view.working[instrument_id] -= signed
                if record.leaves_quantity:
                    view.open_orders[record.client_order_id] = (instrument_id, known[1] - signed)
                else:
                    del view.open_orders[record.client_order_id]
            if type(self.strategy).on_fill is not Strategy.on_fill:
                view.now_ns = now_ns
                self.call(self.strategy.on_fill, record)
                if view.wishes:
                    self.carry_out(now_ns, record.ts_event_ns, record.event_id, out)
            return
        if isinstance(record, OrderEvent):
            self._on_order_event(record, now_ns, out)

    def _on_order_event(self, event: OrderEvent, now_ns: int, out: Outbox) -> None:
        view = self.view
        known = view.open_orders.get(event.client_order_id)
        if known is None:
            return
        instrument_id, open_quantity = known
        if isinstance(event, OrderReplaced):
            left = event.quantity - (event.cumulative_quantity or ZERO)
            left = left if open_quantity > 0 else -left
            view.working[instrument_id] += left - open_quantity
            view.open_orders[event.client_order_id] = (instrument_id, left)
            return
        if event.status in ("DENIED", "REJECTED", "CANCELED", "EXPIRED"):
            view.working[instrument_id] -= open_quantity
            del view.open_orders[event.client_order_id]
            if self.is_array and event.status in ("DENIED", "REJECTED"):
                self._make_up(event, instrument_id, open_quantity, now_ns, out)

    def _make_up(
        self, event: OrderEvent, instrument_id: str, missing: Decimal, now_ns: int, out: Outbox
    ) -> None:
        change, order_id = order_after(self.view, event, instrument_id, missing)
        seen = self.view.prices.get(instrument_id)
        if not change or seen is None:
            return
        if not order_id:
            self.view.next_order += 1
            order_id = f"{self.view.prefix}{self.view.next_order}"
        self._submit(
            derived_base(self.producer, event.event_id),
            0,
            event.event_id,
            instrument_id,
            _BUY if change > 0 else _SELL,
            abs(change),
            order_id,
            now_ns,
            float(seen),
            now_ns,
            out,
        )

    def on_split(self, instrument_id: str, ratio: Decimal) -> None:
        """Scale position and price, and let the strategy rescale its indicators.

        The account tells how each order stands then, see ``OrderReplaced``.
        """
        view = self.view
        if instrument_id not in view.positions:
            return
        increment = self._quantity_grids[instrument_id].increment
        scaled = on_share_count(view.positions[instrument_id], ratio, increment)
        price = ZERO
        if instrument_id in view.prices:
            price = view.prices[instrument_id] = view.prices[instrument_id] / ratio
        multiplier = view.instruments[instrument_id].multiplier
        view.positions[instrument_id], in_lieu = settled(scaled, increment, price, multiplier)
        view.cash += in_lieu
        self.call(self.strategy.on_split, instrument_id, ratio)

    def on_dividend(self, instrument_id: str, amount: Decimal) -> None:
        """Take a dividend into the strategy's cash."""
        if instrument_id in self.view.positions:
            multiplier = self.view.instruments[instrument_id].multiplier
            self.view.cash += self.view.positions[instrument_id] * amount * multiplier
            if self.strategy.reinvest:
                # The next opinion counts as new, so it is sized by the equity with the dividend.
                self.last_target = None

    # ---- snapshots

    def state(self) -> InstanceState:
        """Return what must survive a restart."""
        view = self.view
        return InstanceState(
            self.status,
            dict(self.parameters()),
            view.positions,
            view.working,
            view.prices,
            view.open_orders,
            view.cash,
            view.next_order,
            self.last_target,
            self.timers,
            attributes.saved(self.strategy),
        )

    def parameters(self) -> dict[str, ParameterValue]:
        """Return the strategy's parameters as they stand."""
        return {name: getattr(self.strategy, name) for name in type(self.strategy).parameters}

    def take(self, state: InstanceState) -> None:
        """Take over a state."""
        view = self.view
        for name, value in state.parameters.items():
            setattr(self.strategy, name, value)
        self._start()
        # What on_start asks for was carried out when the run began.
        view.wishes = []
        self.status = state.status
        view.positions, view.working, view.prices = state.positions, state.working, state.prices
        view.open_orders, view.cash, view.next_order = (
            state.open_orders,
            state.cash,
            state.next_order,
        )
        self.last_target = state.last_target
        self.timers = state.timers
        attributes.set_again(self.strategy, state.attributes)
