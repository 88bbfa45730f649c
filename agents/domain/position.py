"""One position: signed quantity, average cost, first-in-first-out lots, realized results.

Both cost methods run side by side: they agree on the total once a position is flat and differ only
in when a result is realized. All amounts are in the instrument's currency and before fees; fees are
kept apart.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from schemas.values import ZERO, on_share_count


def settled(
    quantity: Decimal, increment: Decimal, price: Decimal, multiplier: Decimal
) -> tuple[Decimal, Decimal]:
    """Return the whole increments of a quantity after a split, and the cash in lieu of the rest.

    The rest is sold at ``price``, the one after the split; of a short position it is bought back,
    and the cash is negative.
    """
    whole = (quantity // increment) * increment
    return whole, (quantity - whole) * price * multiplier


class Position(msgspec.Struct, gc=True):
    """State of one position.

    ``quantity`` is signed; ``cost`` is the signed cost of what is open (quantity x average price x
    multiplier); ``lots`` holds [signed quantity, price] oldest first.
    """

    multiplier: Decimal = Decimal(1)
    quantity: Decimal = ZERO
    cost: Decimal = ZERO
    realized: Decimal = ZERO
    realized_fifo: Decimal = ZERO
    fees: Decimal = ZERO
    dividends: Decimal = ZERO
    lots: list[tuple[Decimal, Decimal]] = []

    def average_price(self) -> Decimal:
        """Return the average price of what is open, 0 when flat."""
        quantity = self.quantity
        return self.cost / (quantity * self.multiplier) if quantity else ZERO

    def apply_fill(self, signed: Decimal, price: Decimal, fee: Decimal) -> None:
        """Apply an execution of ``signed`` units (positive bought, not 0) at ``price``.

        ``fee`` is positive when paid.
        """
        self.fees += fee
        held = self.quantity
        multiplier = self.multiplier
        if not held:
            self.quantity = signed
            self.cost = signed * price * multiplier
            self.lots = [(signed, price)]
            return
        if (held > 0) == (signed > 0):
            self.quantity = held + signed
            self.cost += signed * price * multiplier
            self.lots.append((signed, price))
            return
        closing = signed if abs(signed) <= abs(held) else -held
        opening = signed - closing
        proceeds = -closing * price * multiplier
        # The cost leaves in proportion, and whole when all is closed, so a flat position has cost
        # exactly 0.
        leaving = self.cost if closing == -held else self.cost * -closing / held
        self.realized += proceeds - leaving
        self.realized_fifo += self._close_lots(closing, price)
        self.cost -= leaving
        self.quantity = held + closing
        if opening:
            self.quantity = opening
            self.cost = opening * price * multiplier
            self.lots = [(opening, price)]

    def _close_lots(self, closing: Decimal, price: Decimal) -> Decimal:
        """Take ``-closing`` units out of the oldest lots and return their result."""
        lots = self.lots
        if lots[0][0] == -closing:
            quantity, cost = lots.pop(0)
            return quantity * (price - cost) * self.multiplier
        result = ZERO
        left = -closing
        while left:
            quantity, cost = lots[0]
            if abs(quantity) <= abs(left):
                lots.pop(0)
                result += quantity * (price - cost)
                left -= quantity
            else:
                lots[0] = (quantity - left, cost)
                result += left * (price - cost)
                left = ZERO
        return result * self.multiplier

    def apply_split(self, ratio: Decimal, increment: Decimal, price: Decimal) -> Decimal:
        """Turn every share into ``ratio`` shares.

        Return the cash in lieu of what does not fit ``increment``: it is sold (or bought back, and
        the cash negative) at ``price``, the price after the split. Total cost is kept, but for the
        part of the fraction.
        """
        if not self.quantity:
            return ZERO
        self.quantity = on_share_count(self.quantity, ratio, increment)
        self._scale_lots(ratio, increment)
        whole, in_lieu = settled(self.quantity, increment, price, self.multiplier)
        if whole == self.quantity:
            self.quantity = whole
            return ZERO
        self.apply_fill(whole - self.quantity, price, ZERO)
        return in_lieu

    def _scale_lots(self, ratio: Decimal, increment: Decimal) -> None:
        """Scale the lots so that they sum to the quantity and each keeps its cost."""
        scaled = [on_share_count(quantity, ratio, increment) for quantity, _ in self.lots]
        # What rounding leaves goes to the largest lot, which no such rest can turn.
        largest = max(range(len(scaled)), key=lambda index: abs(scaled[index]))
        scaled[largest] += self.quantity - sum(scaled)
        self.lots = [
            (new, quantity * cost / new)
            for new, (quantity, cost) in zip(scaled, self.lots, strict=True)
            if new
        ]

    def absorb(self, other: Position) -> None:
        """Take over another position in the same thing; opposite ones close each other at cost."""
        for name in ("realized", "realized_fifo", "fees", "dividends"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        if not self.quantity or (self.quantity > 0) == (other.quantity > 0):
            self.quantity += other.quantity
            self.cost += other.cost
            self.lots = self.lots + other.lots
        elif other.quantity:
            self.apply_fill(other.quantity, other.average_price(), ZERO)

    def unrealized(self, price: Decimal) -> Decimal:
        """Return the result if all were closed at ``price``."""
        return self.quantity * price * self.multiplier - self.cost
