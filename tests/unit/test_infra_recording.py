"""What ``millrace record`` and ``--from-kafka`` refuse before they read anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.cli_recording import check_folder, check_ranges, parse_offsets
from schemas.errors import ConfigError
from schemas.topics import MARKET_EVENTS
from streams.datasets.topics_folder import TOPICS


@pytest.mark.parametrize("text", ["4=0:1", "9=0:", "0=100:50", "1=5:5"])
def test_range_that_holds_nothing_is_refused(text: str) -> None:
    ranges = {(MARKET_EVENTS, p): bounds for p, bounds in parse_offsets(text).items()}
    with pytest.raises(ConfigError) as caught:
        check_ranges(ranges, {MARKET_EVENTS: 4})
    assert (caught.value.field, caught.value.value) == ("offsets", text)


@pytest.mark.parametrize("text", ["", "0=:", "3=7:8", "0=100:2000,1=50:"])
def test_range_of_a_partition_is_taken(text: str) -> None:
    ranges = {(MARKET_EVENTS, p): bounds for p, bounds in parse_offsets(text).items()}
    check_ranges(ranges, {MARKET_EVENTS: 4})


def test_recording_stands_alone_in_its_folder(tmp_path: Path) -> None:
    check_folder(tmp_path / "new")
    check_folder(tmp_path)
    (tmp_path / "notes.txt").touch()
    for folder in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(ConfigError, match="among other files"):
            check_folder(folder)
    (tmp_path / TOPICS).mkdir()
    check_folder(tmp_path)  # a recording that goes on
