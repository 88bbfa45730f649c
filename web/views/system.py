"""The run itself: manifest, settings, what is wrong with data, what was unusable."""

from __future__ import annotations

from collections import deque

from schemas.control import (
    ConfigChanged,
    DeadLetter,
    RunManifest,
)
from schemas.market_data import DataQuality
from streams.log import Published

_DEAD_LETTERS_MAX = 1_000
_RETRIED_MAX = 2 * _DEAD_LETTERS_MAX


class System:
    """Data quality by kind, last dead letters, settings, and the manifest if one was published."""

    def __init__(self) -> None:
        self.quality_by_kind: dict[str, int] = {}
        self.dead_letters: deque[Published] = deque(maxlen=_DEAD_LETTERS_MAX)
        self.dead_letter_count = 0
        self.retried: dict[str, None] = {}
        self.settings: dict[str, ConfigChanged] = {}
        self.manifest: RunManifest | None = None

    def on_quality(self, quality: DataQuality) -> None:
        """Take in something wrong with market data."""
        kind = quality.kind.value
        self.quality_by_kind[kind] = self.quality_by_kind.get(kind, 0) + quality.count

    def on_dead_letter(self, item: Published) -> None:
        """Take in a record that could not be used."""
        if isinstance(item.record, DeadLetter):
            self.dead_letters.append(item)
            self.dead_letter_count += 1

    def on_retried(self, letter_id: str) -> None:
        """Take in that the record of a letter was written again."""
        self.retried[letter_id] = None
        if len(self.retried) > _RETRIED_MAX:
            del self.retried[next(iter(self.retried))]

    def on_config(self, change: ConfigChanged) -> None:
        """Take in a changed setting."""
        self.settings[change.name] = change

    def on_manifest(self, manifest: RunManifest) -> None:
        """Take in a run's manifest."""
        self.manifest = manifest
