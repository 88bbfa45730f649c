"""What an author's mistake is called: an exception of their code, or targets that are none."""

from __future__ import annotations

import traceback

import numpy as np

from agents.strategy.api import Strategy
from agents.strategy.config import StrategyConfig
from schemas.columns import Floats
from schemas.errors import ConfigError, MillraceError

TARGET_MAX = 1000


def told(strategy: Strategy, config: StrategyConfig, error: BaseException) -> MillraceError:
    """Return an error of the author's code as one of ours, with its line in their file."""
    if isinstance(error, MillraceError):
        return error
    module = type(strategy).__module__
    places = [
        # The file's name only: where it lies must not show in a record.
        f" ({frame.f_code.co_filename.rpartition('/')[2]}:{line}, {frame.f_code.co_name})"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_globals.get("__name__") == module
    ]
    text = " ".join(str(error).split()) or "no text"
    place = places[-1] if places else ""
    return ConfigError(
        f"strategy {config.short_name} failed: {type(error).__name__}: {text}{place}",
        field="strategy_id",
        value=config.strategy_id,
        remedy="mend the strategy",
    )


def problem_of(name: str, targets: Floats, length: int) -> MillraceError | None:
    """Return why ``targets`` are no targets for ``length`` elements, None if they are."""
    if targets.shape != (length,):
        return ConfigError(
            f"strategy {name}: signals() must return one target for each element",
            field="signals",
            value=targets.shape,
            remedy=f"return an array of length {length}",
        )
    if np.any(np.abs(targets) > TARGET_MAX):
        return ConfigError(
            f"strategy {name}: signals() must return targets from -{TARGET_MAX} to {TARGET_MAX}",
            field="signals",
            value=float(np.nanmax(np.abs(targets))),
            remedy="return 1 for long, -1 for short, 0 for flat, NaN for no new opinion",
        )
    return None
