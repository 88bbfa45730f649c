"""Pages of history with their frames, shared by clients that read the same.

Many that begin at one place, as after a restart, would else read and encode the same records once
each, and hold them once each while they wait.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from streams.log import Log, Published, page_of
from web.frames import Frame, FrameMaker

_PAGES_MAX = 64

_Key = tuple[str, int, str, int, int]


class SharedPage:
    """Records of one partition in a row; a frame is made when the first client wants it."""

    def __init__(
        self, records: Sequence[Published], next_offset: int, frames: FrameMaker, epoch: str
    ) -> None:
        self.records = records
        self.next_offset = next_offset
        self._maker = frames
        self._epoch = epoch
        self._made: list[Frame | None] = [None] * len(records)

    def frame(self, index: int) -> Frame:
        """Return the frame of a record."""
        made = self._made[index]
        if made is None:
            made = self._made[index] = self._maker.frame(self.records[index], self._epoch)
        return made


class SharedPages:
    """Reads pages of what a log has at hand, and keeps the full ones that were read last."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._frames = FrameMaker()
        self._kept: OrderedDict[_Key, SharedPage] = OrderedDict()

    def read(self, topic: str, partition: int, offset: int, limit: int) -> SharedPage:
        """Return up to ``limit`` records from ``offset`` on, as ``page_of`` does."""
        key = (topic, partition, self._log.epoch_of(topic), offset, limit)
        page = self._kept.get(key)
        if page is not None and offset >= self._log.at_hand(topic, partition):
            self._kept.move_to_end(key)
            return page
        found = page_of(self._log, topic, partition, offset, limit)
        page = self.shared(topic, found.records, found.next_offset)
        # What stands behind a page that is not full may come yet.
        if len(found.records) == limit and found.start == offset:
            self._kept[key] = page
            if len(self._kept) > _PAGES_MAX:
                self._kept.popitem(last=False)
        return page

    def shared(self, topic: str, records: Sequence[Published], next_offset: int) -> SharedPage:
        """Return records that were read otherwise as a page; it is not kept."""
        return SharedPage(records, next_offset, self._frames, self._log.epoch_of(topic))
