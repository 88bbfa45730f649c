"""The record of a dead letter as it is written again: named, and numbered, after its letter.

The number is the first of a producer of the letter's own, so readers that drop what a producer has
written before take one retry of a letter and no second, whoever wrote them. The name makes another
letter about the record differ from the first.
"""

from __future__ import annotations

from typing import Any

import msgspec

from schemas.envelope import Header

_RETRY = "retry:"


def written_again(letter_id: str, record: Header) -> Any:
    """Return the record of the letter ``letter_id`` as it is written again."""
    # The number that its producer gave it has passed: under it the record would count as known.
    name = f"{_RETRY}{letter_id}"
    return msgspec.structs.replace(record, event_id=name, producer=name, producer_seq=1)


def retried_letter(record: Header) -> str:
    """Return the letter whose record was written again as ``record``, empty for any other."""
    return record.producer.removeprefix(_RETRY) if record.producer.startswith(_RETRY) else ""
