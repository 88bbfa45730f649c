"""Plays the long fuzz run: ``python -m tests.simulation.fuzz --seed 1`` (``make fuzz SEED=1``).

10^5 requests and 1,000 WebSocket sessions, mutated from what the OpenAPI document allows. Prints a
table; exit status 1 if anything does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from tests.simulation.faults import show
from tests.simulation.fuzz.running import SHORT, Plan, run_fuzz


def main() -> None:
    """Run what the command line describes."""
    parser = argparse.ArgumentParser(prog="make fuzz")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--requests", type=int, help="how many; frames in proportion")
    parser.add_argument("--short", action="store_true", help="as the tests do")
    parser.add_argument("--keep", type=Path, help="folder for logs, data and breaches of the run")
    arguments = parser.parse_args()
    console = Console(highlight=False, width=160)
    plan = SHORT if arguments.short else Plan()
    if arguments.requests:
        share = arguments.requests / plan.requests
        plan = plan._replace(
            requests=arguments.requests,
            sessions=max(round(plan.sessions * share), 1),
            broken=max(round(plan.broken * share), 1),
        )
    console.print(f"seed {arguments.seed}: {plan}")
    with tempfile.TemporaryDirectory(prefix="millrace-fuzz-") as name:
        folder = arguments.keep or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        checks = asyncio.run(run_fuzz(plan, arguments.seed, folder, console))
    sys.exit(0 if show(checks, console) else 1)


if __name__ == "__main__":
    main()
