"""Several partitions read as one stream: merged by time, as far as their offsets allow.

Read models fold what several topics say of one thing (a fill, the position that it made, the split
between two fills), so they must hear of it in the order in which it happened. Each partition is
read a page at a time, and only when its last page is used up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from heapq import heapify, heappop, heappush, heapreplace

from streams.log import Published


async def in_order_of_time(
    parts: Sequence[AsyncIterator[list[Published]]],
) -> AsyncGenerator[list[Published], None]:
    """Yield the records of all parts in groups, the earliest next one first.

    Of two records at one instant that of the earlier part comes first; within a part the order
    stays. A group ends where a page of some part does.
    """
    pages = [await _next_page(part) for part in parts]
    heads = [(time_of(page[0]), number) for number, page in enumerate(pages) if page]
    heapify(heads)
    group: list[Published] = []
    while heads:
        _, number = heads[0]
        page = pages[number]
        group.append(page.popleft())
        if page:
            heapreplace(heads, (time_of(page[0]), number))
            continue
        yield group
        group = []
        heappop(heads)
        page = pages[number] = await _next_page(parts[number])
        if page:
            heappush(heads, (time_of(page[0]), number))


async def _next_page(part: AsyncIterator[list[Published]]) -> deque[Published]:
    """Return the next page with something in it, an empty one at the end of the part."""
    async for page in part:
        if page:
            return deque(page)
    return deque()


def time_of(item: Published) -> int:
    """Return the event time of a record (int64 ns UTC), 0 if it has none."""
    return getattr(item.record, "ts_event_ns", 0)
