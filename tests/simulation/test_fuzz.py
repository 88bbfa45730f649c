"""A short fuzz run against the one-process engine; ``make fuzz`` plays the long one."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from tests.simulation.fuzz.running import SHORT, run_fuzz


async def test_nothing_that_is_sent_does_any_harm(tmp_path: Path) -> None:
    with (tmp_path / "fuzz.log").open("w") as log:
        checks = await run_fuzz(SHORT, 7, tmp_path, Console(file=log, width=200))

    assert [check for check in checks if check.breach] == []
    assert all(check.looked_at for check in checks)
