"""What the market stage is told to make and to watch."""

from __future__ import annotations

import msgspec

from schemas.errors import ConfigError
from schemas.instruments import CorporateAction
from schemas.market_data import INTERVALS


class MarketConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Configure the market stage.

    ``intervals``: names of the bars to build. ``reference_interval_s``: at most one reference price
    of an instrument in this many seconds of event time. ``correction_bars``: how many closed bars
    of an instrument and interval late trades may correct. ``jump_limit``: a fraction. ``check_*``:
    which faults to report; invalid values and data too late for any bar are reported always, since
    they are left out. ``indicators``: such as "sma:20@1m". ``actions``: corporate actions known
    from the start; others may come in the stream. Raises ConfigError for a value out of range.
    """

    intervals: tuple[str, ...] = ("1m", "1d")
    reference_interval_s: float = 1.0
    correction_bars: int = 64
    jump_limit: float = 0.25
    check_order: bool = True
    check_crossed: bool = True
    check_jumps: bool = True
    indicators: tuple[str, ...] = ()
    actions: tuple[CorporateAction, ...] = ()

    def __post_init__(self) -> None:
        for name in self.intervals:
            if name not in INTERVALS or self.intervals.count(name) > 1:
                raise ConfigError(
                    "a bar interval is unknown or named twice", field="intervals", value=name,
                    remedy=f"name each at most once, out of {', '.join(INTERVALS)}",
                )  # fmt: skip
        for field, value, least in (
            ("reference_interval_s", self.reference_interval_s, 1e-9),
            ("correction_bars", self.correction_bars, 0),
            ("jump_limit", self.jump_limit, 1e-9),
        ):
            if not least <= value < 1e9:
                raise ConfigError(
                    "a setting of the market stage is out of range", field=field, value=value,
                    remedy=f"give a number from {least} to 1e9",
                )  # fmt: skip
