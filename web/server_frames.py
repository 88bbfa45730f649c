"""The frames that the server sends, as structs: what is sent, documented and tested is one thing.

A client leaves alone what it does not know: fields and frames may be added.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from schemas.topics import CATALOGUE
from web.frames import Cursor


class ServerFrame(msgspec.Struct, tag_field="op", kw_only=True):
    """Base of all frames that the server sends."""


class Limits(msgspec.Struct):
    """What the server takes and holds for one client."""

    inbound_max_bytes: int
    inbound_ops_per_s: float
    outbox_max_frames: int
    outbox_max_bytes: int


class Hello(ServerFrame, tag="hello"):
    """The first frame: which run this is, and what it has.

    ``topics`` has the class of every topic: ``complete``, ``conflated`` or ``state``. Where
    ``is_authenticated`` is false, ``auth`` must come within ``auth_timeout_ms``.
    """

    session: str
    run_id: str
    epoch: str
    server_time: str
    server_time_ns: int
    is_authenticated: bool
    auth_timeout_ms: int
    heartbeat_ms: int
    limits: Limits
    topics: dict[str, str]


class Authenticated(ServerFrame, tag="authenticated"):
    """The answer to ``auth``: who the client is now, and what it may."""

    id: str | int
    name: str
    scopes: list[str]


class Subscribed(ServerFrame, tag="subscribed"):
    """The answer to ``subscribe``: the class of each topic, and the place where it begins."""

    id: str | int
    topics: dict[str, str]
    cursor: Cursor


class Unsubscribed(ServerFrame, tag="unsubscribed"):
    """The answer to ``unsubscribe``: the topics that are no more sent."""

    id: str | int
    topics: list[str]


class Held(msgspec.Struct):
    """One record of a snapshot, with its place."""

    partition: int
    offset: int
    data: msgspec.Raw


class Snapshot(ServerFrame, tag="snapshot"):
    """Part of what a topic holds: the newest record of each key, or the last ones.

    Updates of the topic follow the part with ``is_last``. ``is_complete`` is false where memory has
    let go of keys, or of records of a topic without keys.
    """

    id: str | int
    topic: str
    epoch: str
    records: list[Held]
    is_last: bool
    is_complete: bool


class Data(ServerFrame, tag="data"):
    """One record, with its place in the log."""

    topic: str
    partition: int
    epoch: str
    offset: int
    data: msgspec.Raw


class Gap(ServerFrame, tag="gap"):
    """Of the offsets ``from`` to ``to`` some were left out."""

    topic: str
    partition: int
    first: int = msgspec.field(name="from")
    last: int = msgspec.field(name="to")
    reason: Literal["slow_client", "no_longer_kept"]


class Heartbeat(ServerFrame, tag="heartbeat"):
    """Nothing else was sent for a while."""

    server_time: str
    server_time_ns: int


class Pong(ServerFrame, tag="pong"):
    """The answer to ``ping``."""

    id: str | int
    server_time: str
    server_time_ns: int


class Error(ServerFrame, tag="error", omit_defaults=True):
    """A request that was not carried out; with ``cursor`` the connection ends as well."""

    id: str | int
    code: str
    detail: str
    cursor: Cursor | None = None


class Disconnect(ServerFrame, tag="disconnect"):
    """The last frame; ``cursor`` is behind everything that was sent."""

    code: str
    detail: str
    cursor: Cursor
    id: str | int = ""


AnyServerFrame = (
    Hello
    | Authenticated
    | Subscribed
    | Unsubscribed
    | Snapshot
    | Data
    | Gap
    | Heartbeat
    | Pong
    | Error
    | Disconnect
)

CLASSES = {topic.name: topic.websocket for topic in CATALOGUE}
"""The class of every topic."""
