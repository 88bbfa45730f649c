"""The frames of the WebSocket: what clients may send, and what they are sent.

A data frame holds only what is the same for all clients, so it is encoded once for all of them, up
to the bytes that go over the wire (RFC 6455: a server's frames are not masked).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from schemas.codec import encode
from schemas.topics import TOPIC_BY_NAME
from streams.log import Published
from web.decoding import field_error
from web.filters import Filters
from web.keys import Key, record_key

_SHORT, _MEDIUM = 126, 65_536
_TEXT = 0x81  # one whole text frame

Topics = Annotated[list[str], Meta(min_length=1, max_length=64)]
Offset = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class TopicPlace(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Where a client stands in one topic: next offset by partition, counted in ``epoch``."""

    epoch: str
    offsets: dict[str, Offset]


Cursor = dict[str, TopicPlace]
"""Where a client goes on, by topic. It is what frames say and what ``from`` takes."""


class Auth(msgspec.Struct, tag_field="op", tag="auth", forbid_unknown_fields=True):
    """Say who you are: an API key, or a ticket that a browser was given."""

    secret: Annotated[str, Meta(min_length=1, max_length=1000)]
    id: str | int = ""


class Subscribe(msgspec.Struct, tag_field="op", tag="subscribe", forbid_unknown_fields=True):
    """Ask for topics; a topic asked for again takes the new filters.

    ``origin`` (``from`` on the wire): ``latest``, ``earliest``, or a cursor. ``mode``: ``all``
    leaves nothing out even of conflated topics, ``conflated`` is for those that may be; without it
    the topic's class decides. ``snapshot``: first what the read models hold. ``batch``: from now on
    this client's frames come as JSON arrays.
    """

    topics: Topics
    id: str | int = ""
    filters: Filters = Filters()
    mode: Literal["all", "conflated"] | None = None
    origin: Literal["latest", "earliest"] | Cursor = msgspec.field(name="from", default="latest")
    snapshot: bool = False
    batch: bool = False


class Unsubscribe(msgspec.Struct, tag_field="op", tag="unsubscribe", forbid_unknown_fields=True):
    """Ask for no more of these topics."""

    topics: Topics
    id: str | int = ""


class Ping(msgspec.Struct, tag_field="op", tag="ping", forbid_unknown_fields=True):
    """Ask for a sign of life."""

    id: str | int = ""


Request = Auth | Subscribe | Unsubscribe | Ping
REQUESTS = msgspec.json.Decoder(Request)
_KINDS = {kind.__struct_config__.tag: kind for kind in (Auth, Subscribe, Unsubscribe, Ping)}


class _Named(msgspec.Struct):
    id: str | int = ""


def id_of(text: str) -> str | int:
    """Return the id of a request that is wrong otherwise, or an empty one."""
    try:
        return msgspec.json.decode(text, type=_Named).id
    except (msgspec.MsgspecError, RecursionError):
        return ""


def fault_of(text: str, error: msgspec.ValidationError) -> str:
    """Return what is wrong with a request that is JSON, and what may stand there instead."""
    try:
        document = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        document = None
    if not isinstance(document, dict):
        return f"{error}; send an object with an op"
    op = document.get("op")
    kind = _KINDS.get(op) if isinstance(op, str) else None
    if kind is None:
        said = "is missing" if op is None else "is no request"
        return f"/op {said}; give one of {', '.join(map(str, _KINDS))}"
    found = field_error(str(error), document, kind, "frame", "/asyncapi.json")
    remedy = found.remedy
    if found.pointer == "/from":
        # One of the names, or a place for each topic, which no list of choices has.
        remedy = "give latest, earliest, or a cursor"
    return f"{found.pointer} {found.detail}; {remedy}"


class Text:
    """One frame that is sent: ``wire`` is it as it goes over the wire, header and all."""

    __slots__ = ("_head", "wire")

    def __init__(self, payload: bytes) -> None:
        head = _header(len(payload))
        self._head = len(head)
        self.wire = head + payload

    @property
    def payload(self) -> bytes:
        """The JSON text alone."""
        return self.wire[self._head :]


class Frame(Text):
    """One data frame; ``key`` is empty on complete topics: their frames are all sent."""

    __slots__ = ("key", "offset", "partition", "topic")

    def __init__(self, topic: str, partition: int, offset: int, key: Key, payload: bytes) -> None:
        super().__init__(payload)
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.key = key


def _header(length: int) -> bytes:
    if length < _SHORT:
        return bytes((_TEXT, length))
    if length < _MEDIUM:
        return bytes((_TEXT, 126)) + length.to_bytes(2, "big")
    return bytes((_TEXT, 127)) + length.to_bytes(8, "big")


class FrameMaker:
    """Makes data frames; what is the same for all frames of a partition is made once."""

    def __init__(self) -> None:
        self._starts: dict[tuple[str, int, str], bytes] = {}

    def frame(self, item: Published, epoch: str) -> Frame:
        """Return the frame of one published record."""
        topic, partition, offset, record = item
        start = self._starts.get((topic, partition, epoch))
        if start is None:
            start = self._starts[topic, partition, epoch] = (
                f'{{"op":"data","topic":"{topic}","partition":{partition},'
                f'"epoch":{msgspec.json.encode(epoch).decode()},"offset":'
            ).encode()
        is_complete = TOPIC_BY_NAME[topic].websocket == "complete"
        key = () if is_complete else record_key(topic, record)
        payload = b'%b%d,"data":%b}' % (start, offset, encode(record))
        return Frame(topic, partition, offset, key, payload)


def control(content: msgspec.Struct) -> Text:
    """Return any other frame."""
    return Text(msgspec.json.encode(content))


def array(payloads: Sequence[bytes]) -> Text:
    """Return frames as one: a JSON array of them."""
    return Text(b"[" + b",".join(payloads) + b"]")
