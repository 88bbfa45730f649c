"""Frames joined into few writes, once for all clients that want the same ones.

What costs time is the write to each client's socket, not the frame. So everything that was
published since the last turn goes out in one write, and its bytes are joined once for a whole group
of clients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from web.frames import Frame, Text, array

PART_BYTES = 32_768
"""About as much as is written at once; also what a client that takes nothing more has in flight."""
PART_FRAMES = 256


class Part(NamedTuple):
    """Frames that are written at once.

    ``texts`` are the messages a client gets, ``wire`` all of them as bytes; ``ends`` has the offset
    behind them by topic and partition.
    """

    frames: Sequence[Text]
    texts: Sequence[Text]
    wire: bytes
    ends: dict[tuple[str, int], int]


def part_of(frames: Sequence[Text], *, is_batched: bool) -> Part:
    """Return frames as one part; batched they are one message."""
    texts = [array([frame.payload for frame in frames])] if is_batched else frames
    wire = texts[0].wire if len(texts) == 1 else b"".join([text.wire for text in texts])
    ends = {(f.topic, f.partition): f.offset + 1 for f in frames if isinstance(f, Frame)}
    return Part(frames, texts, wire, ends)


def parts_of(frames: Sequence[Frame], *, is_batched: bool) -> list[Part]:
    """Return frames as parts of bounded size."""
    parts: list[Part] = []
    first, size = 0, 0
    for number, frame in enumerate(frames):
        size += len(frame.wire)
        if size >= PART_BYTES or number - first >= PART_FRAMES:
            parts.append(part_of(frames[first : number + 1], is_batched=is_batched))
            first, size = number + 1, 0
    if first < len(frames):
        parts.append(part_of(frames[first:], is_batched=is_batched))
    return parts
