"""How long to wait before the next attempt: twice as long each time, up to a bound."""

from __future__ import annotations

from schemas.errors import ConfigError


class Backoff:
    """Waiting times between ``first_s`` and ``most_s`` that double until ``reset``.

    Raises ConfigError unless 0 < first_s <= most_s.
    """

    def __init__(self, first_s: float, most_s: float) -> None:
        if not 0 < first_s <= most_s < float("inf"):
            raise ConfigError(
                "a feed cannot wait like this between attempts",
                field="retry_first_s, retry_most_s",
                value=(first_s, most_s),
                remedy="give seconds with 0 < retry_first_s <= retry_most_s",
            )
        self._first_s = first_s
        self._most_s = most_s
        self.failures = 0

    def next_s(self) -> float:
        """Count a failed attempt and return how long to wait after it."""
        # The exponent is bounded: floats end at 2**1024, attempts do not.
        wait_s = min(self._first_s * 2.0 ** min(self.failures, 64), self._most_s)
        self.failures += 1
        return wait_s

    def reset(self) -> None:
        """Begin anew: an attempt has succeeded."""
        self.failures = 0
