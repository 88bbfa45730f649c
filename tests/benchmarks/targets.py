"""What a benchmark must reach, and a line that says whether it did on this machine, in this run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Target(NamedTuple):
    """A measured figure with its bound: at least that much, or less than it if ``is_below``."""

    name: str
    value: float
    bound: float
    is_below: bool = False

    @property
    def is_met(self) -> bool:
        """Whether the figure keeps to its bound."""
        return self.value < self.bound if self.is_below else self.value >= self.bound


def show_verdict(targets: Sequence[Target]) -> None:
    """Print a line for each target."""
    for target in targets:
        wanted = f"{'below' if target.is_below else 'at least'} {target.bound:,g}"
        verdict = "met" if target.is_met else "NOT MET"
        value = f"{target.value:,.0f}" if target.value >= 1000 else f"{target.value:.2f}"
        print(f"target: {target.name} {value}, {wanted}: {verdict}", flush=True)
