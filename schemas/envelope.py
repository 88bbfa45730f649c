"""What every record carries besides its message.

``Record`` is the base of all messages that Millrace itself derives: they are always caused by
another record, so id, time, correlation and causation are required and come first. ``Header`` holds
what a transport adds (producer, sequence, run, receive time); it is left out of the wire while it
is empty, and run id and receive time are left out of comparisons between two runs.
"""

from __future__ import annotations

import msgspec

SCHEMA_VERSION = 1
"""The newest version of the records that this program reads and writes."""


class Header(msgspec.Struct, kw_only=True, gc=False, omit_defaults=True, tag_field="type"):
    """Fields that the transport or an outside producer fills in.

    ``source`` and ``source_seq`` name a row of an outside source; ``producer`` and ``producer_seq``
    number what one processor instance wrote to one output partition; ``ts_received_ns`` is the time
    at which an incoming record reached us.
    """

    run_id: str = ""
    ts_received_ns: int = 0
    source: str = ""
    source_seq: int = 0
    producer: str = ""
    producer_seq: int = 0
    schema_version: int = 1  # Stays 1: a record without the field is of the first version.


class Record(Header, gc=False, omit_defaults=True, tag_field="type"):
    """Base of every derived message.

    ``correlation_id`` is shared by everything that belongs to one order or request;
    ``causation_id`` is the id of the one record that made this one happen. ``ts_event_ns`` is int64
    ns UTC.
    """

    event_id: str
    ts_event_ns: int
    correlation_id: str
    causation_id: str


class Incoming(Header, gc=False, omit_defaults=True, tag_field="type", kw_only=True):
    """Base of messages that outsiders write: the id may be missing and is given at the door."""

    event_id: str = ""
    ts_event_ns: int
    correlation_id: str = ""
    causation_id: str = ""
