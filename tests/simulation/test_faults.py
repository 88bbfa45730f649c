"""A short fault run on a real Kafka; ``make faults`` runs the long one."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from tests.integration.conftest import JARS
from tests.simulation.faults import SHORT, run_faults


async def test_nothing_breaks_under_fire(tmp_path: Path) -> None:
    with (tmp_path / "faults.log").open("w") as log:
        checks = await run_faults(SHORT, 7, tmp_path, JARS, Console(file=log, width=200))
    assert [check for check in checks if check.breach] == []
    assert all(check.looked_at for check in checks if check.name != "no dead letter")
