"""The frames of the WebSocket: what clients may send, and what they are sent.

A data frame holds only what is the same for all clients, so it is encoded once for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from schemas.codec import encode
from schemas.envelope import Header
from schemas.topics import TOPIC_BY_NAME
from streams.log import Published
from web.filters import Filters
from web.keys import Key, record_key

Topics = Annotated[list[str], Meta(min_length=1, max_length=64)]
Cursor = dict[str, dict[str, Annotated[int, Meta(ge=0)]]]
"""Next offset by topic and partition: where the client goes on."""


class Subscribe(msgspec.Struct, tag_field="op", tag="subscribe", forbid_unknown_fields=True):
    """Ask for topics; a topic asked for again takes the new filters.

    ``origin`` (``from`` on the wire): ``latest``, ``earliest``, or a cursor, whose ``epoch`` should
    be given with it. ``snapshot``: first what the read models hold. ``batch``: from now on this
    client's frames come as JSON arrays.
    """

    topics: Topics
    id: str | int = ""
    filters: Filters = Filters()
    origin: Literal["latest", "earliest"] | Cursor = msgspec.field(name="from", default="latest")
    epoch: str = ""
    snapshot: bool = False
    batch: bool = False


class Unsubscribe(msgspec.Struct, tag_field="op", tag="unsubscribe", forbid_unknown_fields=True):
    """Ask for no more of these topics."""

    topics: Topics
    id: str | int = ""


class Ping(msgspec.Struct, tag_field="op", tag="ping", forbid_unknown_fields=True):
    """Ask for a sign of life."""

    id: str | int = ""


REQUESTS = msgspec.json.Decoder(Subscribe | Unsubscribe | Ping)


class _Named(msgspec.Struct):
    id: str | int = ""


def id_of(text: str) -> str | int:
    """Return the id of a request that is wrong otherwise, or an empty one."""
    try:
        return msgspec.json.decode(text, type=_Named).id
    except (msgspec.MsgspecError, RecursionError):
        return ""


class Frame(NamedTuple):
    """One data frame; ``key`` is empty on complete topics: their frames are all sent."""

    topic: str
    partition: int
    offset: int
    key: Key
    text: str


def data_frame(item: Published, epoch: str) -> Frame:
    """Return the frame of one published record."""
    is_complete = TOPIC_BY_NAME[item.topic].websocket == "complete"
    key = () if is_complete else record_key(item.topic, item.record)
    head = (
        f'{{"op":"data","topic":"{item.topic}","partition":{item.partition},"offset":{item.offset},'
        f'"epoch":{control(epoch)},"data":'
    )
    return Frame(
        item.topic, item.partition, item.offset, key, f"{head}{encode(item.record).decode()}}}"
    )


def control(content: Any) -> str:
    """Return any other frame as text."""
    return msgspec.json.encode(content).decode()


def snapshot_frame(
    request_id: str | int, topic: str, epoch: str, items: Sequence[Published], *, is_last: bool
) -> str:
    """Return one part of a topic's snapshot."""
    records: list[dict[str, Any]] = [
        {"partition": item.partition, "offset": item.offset, "data": _raw(item.record)}
        for item in items
    ]
    return control(
        {
            "op": "snapshot",
            "id": request_id,
            "topic": topic,
            "epoch": epoch,
            "records": records,
            "is_last": is_last,
        }
    )


def _raw(record: Header) -> msgspec.Raw:
    return msgspec.Raw(encode(record))
