"""A worker of another version of Millrace, for rolling upgrades.

``python -m tests.simulation.version_worker LABEL ARGUMENTS…`` is ``millrace ARGUMENTS…`` of a
program with another code hash, whose parts keep their state in another version and which knows one
more schema version than this one.
"""

from __future__ import annotations

import sys

import infra.kafka.session
from agents.runners.kafka import incoming
from agents.runners.kafka.parts.account import AccountPart
from agents.runners.kafka.parts.market import MarketPart
from agents.runners.kafka.parts.reference import ReferencePart
from agents.runners.kafka.parts.strategy import StrategyPart
from agents.runners.kafka.parts.venue import VenuePart
from agents.runners.replay import Identity
from infra.cli import main
from infra.identity import VERSION
from schemas import codec
from schemas.envelope import SCHEMA_VERSION

if __name__ == "__main__":
    label = sys.argv.pop(1)
    for part in (AccountPart, MarketPart, ReferencePart, StrategyPart, VenuePart):
        part.VERSION = f"{part.VERSION}-{label}"
    vars(infra.kafka.session)["identity"] = lambda: Identity(f"{VERSION}+{label}", f"code-{label}")
    vars(codec)["SCHEMA_VERSION"] = SCHEMA_VERSION + 1
    vars(incoming)["SCHEMA_VERSION"] = SCHEMA_VERSION + 1
    main()
