"""Records of the account stage's input that could not be used: published, with the reason."""

from __future__ import annotations

import msgspec

from agents.processor import Outbox
from schemas.control import DeadLetter
from schemas.envelope import Header
from schemas.identifiers import derived_id
from schemas.topics import ACCOUNT_INPUTS, SYSTEM_DEAD_LETTERS


class DeadLetters:
    """Publishes what could not be used; ``count`` is how many that were in this process."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, record: Header, reason: str, now_ns: int, out: Outbox) -> None:
        """Publish a record that could not be used, with the reason."""
        self.count += 1
        event_id = getattr(record, "event_id", "")
        letter = DeadLetter(
            event_id=derived_id("account:dead-letter", f"{event_id}|{reason}", 0),
            ts_event_ns=getattr(record, "ts_event_ns", now_ns),
            causation_id=event_id,
            topic=ACCOUNT_INPUTS,
            partition=0,
            offset=0,
            reason=reason,
            value=msgspec.json.encode(record),
        )
        out.append((SYSTEM_DEAD_LETTERS, letter))
