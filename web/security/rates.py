"""Token buckets by name: so many requests a second, and so many at once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

_BUCKETS_MAX = 10_000


class Rates:
    """One bucket for each name; the names that were quiet longest leave when there are too many.

    A bucket that leaves comes back full: ``buckets_max`` names within the time a bucket takes to
    fill would be needed to get more than the rate.
    """

    def __init__(
        self,
        per_s: float,
        burst: int,
        clock_s: Callable[[], float],
        buckets_max: int = _BUCKETS_MAX,
    ) -> None:
        self._per_s = per_s
        self._burst = float(burst)
        self._clock_s = clock_s
        self._buckets_max = buckets_max
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str) -> float:
        """Take a token; return 0, or after how many seconds there will be one."""
        tokens = self._tokens(name)
        if tokens < 1.0:
            self._keep(name, tokens)
            return (1.0 - tokens) / self._per_s
        self._keep(name, tokens - 1.0)
        return 0.0

    def _tokens(self, name: str) -> float:
        now_s = self._clock_s()
        tokens, at_s = self._buckets.get(name, (self._burst, now_s))
        return min(tokens + (now_s - at_s) * self._per_s, self._burst)

    def _keep(self, name: str, tokens: float) -> None:
        self._buckets[name] = (tokens, self._clock_s())
        self._buckets.move_to_end(name)
        while len(self._buckets) > self._buckets_max:
            self._buckets.popitem(last=False)
