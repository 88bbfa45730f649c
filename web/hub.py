"""All WebSocket clients: every published record is encoded once and joined once for all of them.

Records that are published in one turn of the loop, or while the last ones are being written, wait
for each other and go out together. Clients that want the same form a group; the bytes for it are
joined once and written to each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from operator import attrgetter

from starlette.websockets import WebSocket

from streams.log import Log, Published
from web.access import Authenticator, OpenAccess
from web.bundle import parts_of
from web.connection import TRY_LATER, UNKNOWN_CLIENT, Connection, Ending, address_of
from web.filters import Matcher
from web.frames import Frame, FrameMaker
from web.links import link_of
from web.settings import WebSettings
from web.shared_pages import SharedPages
from web.views.models import Views

_TURNS = 2
_GOING_AWAY = 1001

Wants = tuple[bool, frozenset[tuple[str, Matcher]]]
"""Whether frames come as arrays, and what of which topics is wanted."""


class _Pending:
    """A record that is to go out; its frame is made when the first client wants it."""

    __slots__ = ("_frame", "item", "number")

    def __init__(self, number: int, item: Published) -> None:
        self.number = number
        self.item = item
        self._frame: Frame | None = None

    def frame(self, maker: FrameMaker, log: Log) -> Frame:
        frame = self._frame
        if frame is None:
            frame = self._frame = maker.frame(self.item, log.epoch_of(self.item.topic))
        return frame


class Hub:
    """The clients of one app."""

    def __init__(
        self,
        log: Log,
        settings: WebSettings,
        ids: Callable[[], str],
        views: Views,
        access: Authenticator | None = None,
    ) -> None:
        self.access = access or OpenAccess()
        self._log = log
        self._settings = settings
        self._ids = ids
        self._views = views
        self.turns = asyncio.Semaphore(_TURNS)
        self.pages = SharedPages(log)
        self._clients: set[Connection] = set()
        self._groups: dict[Wants, dict[Connection, None]] = {}
        self._wants: dict[Connection, Wants] = {}
        self._topics: dict[str, int] = {}
        self._pending: dict[str, list[_Pending]] = {}
        self._number = 0
        self._maker = FrameMaker()
        self._flushing: asyncio.Handle | None = None
        self._flush_after_s = 0.0
        self._is_writing = False
        self._beating: asyncio.TimerHandle | None = None
        self._looking: asyncio.Task[None] | None = None

    @property
    def client_count(self) -> int:
        """How many clients are connected."""
        return len(self._clients)

    async def serve(self, websocket: WebSocket) -> None:
        """Serve one client until it leaves; refuses it when there are too many.

        Of one address only so many may have a place before they say who they are: nobody without a
        key can take them all.
        """
        await websocket.accept()
        if len(self._clients) >= self._settings.clients_max:
            await websocket.close(TRY_LATER, "too many clients")
            return
        known = await self.access.by_headers(websocket.headers, address_of(websocket))
        if known is None and self._strangers_like(websocket) >= self._settings.strangers_max:
            await websocket.close(TRY_LATER, "too many of this address did not say who they are")
            return
        client = Connection(
            websocket,
            known,
            link_of(websocket),
            self._ids(),
            self._log,
            self._views,
            self._settings,
            self.access,
            self,
        )
        self._clients.add(client)
        if self._beating is None:
            self._beat()
        try:
            await client.run()
        finally:
            self._clients.discard(client)

    def _strangers_like(self, websocket: WebSocket) -> int:
        """Return how many of the same address have not said who they are."""
        address = address_of(websocket)
        return sum(1 for c in self._clients if c.client is None and c.address == address)

    def close(self) -> None:
        """End all connections, each with its cursor."""
        self.flush()
        for client in list(self._clients):
            client.end(Ending(_GOING_AWAY, "server_stops", "the server stops; connect again later"))

    def _beat(self) -> None:
        """Look after idle and stalled clients, as long as there are clients."""
        for client in list(self._clients):
            client.beat()
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_for_revoked())
        loop = asyncio.get_running_loop()
        self._beating = (
            loop.call_later(self._settings.heartbeat_s / 2, self._beat) if self._clients else None
        )

    async def _look_for_revoked(self) -> None:
        """End the connections of clients whose keys are good no more."""
        for client in list(self._clients):
            known = client.client
            if known is not None and not await self.access.is_good(known):
                detail = "the key was revoked or has expired; connect with another"
                client.end(Ending(UNKNOWN_CLIENT, "key_refused", detail))

    # ---- groups

    def regroup(self, client: Connection) -> None:
        """Put a client among those that want the same; what is pending was handed over before."""
        old = self._wants.pop(client, None)
        if old is not None:
            group = self._groups[old]
            del group[client]
            if not group:
                del self._groups[old]
                self._count_topics(old, -1)
        subscriptions = client.subscriptions.values()
        live = [(item.topic, item.matcher) for item in subscriptions if item.is_live]
        if live:
            wants = self._wants[client] = (client.is_batched, frozenset(live))
            if wants not in self._groups:
                self._groups[wants] = {}
                self._count_topics(wants, 1)
            self._groups[wants][client] = None

    def _count_topics(self, wants: Wants, change: int) -> None:
        for topic, _ in wants[1]:
            self._topics[topic] = self._topics.get(topic, 0) + change
            if not self._topics[topic]:
                del self._topics[topic]

    # ---- what is published

    def apply(self, published: Sequence[Published]) -> None:
        """Take records for the clients that want them; never waits for any."""
        topics = self._topics
        if not topics:
            return
        for item in published:
            if item.topic in topics:
                self._number += 1
                self._pending.setdefault(item.topic, []).append(_Pending(self._number, item))
        self._schedule()

    def _schedule(self) -> None:
        if not self._pending or self._flushing is not None or self._is_writing:
            return
        loop = asyncio.get_running_loop()
        wait_s = self._flush_after_s - loop.time()
        if wait_s <= 0:
            self._flushing = loop.call_soon(self.flush)
        else:
            self._flushing = loop.call_later(wait_s, self.flush)

    def flush(self) -> None:
        """Hand over everything that was published, now."""
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        if not self._pending:
            return
        pending, self._pending = self._pending, {}
        begun_s = asyncio.get_running_loop().time()
        for (is_batched, wanted), clients in list(self._groups.items()):
            frames = self._frames(pending, wanted)
            if frames:
                parts = parts_of(frames, is_batched=is_batched)
                for client in list(clients):
                    client.deliver(parts)
        if not self._is_writing:
            # uvloop writes at the end of the turn, so the next turn tells how long it took.
            self._is_writing = True
            asyncio.get_running_loop().call_soon(self._written, begun_s)

    def _written(self, begun_s: float) -> None:
        """Leave as much time to those who publish as writing took.

        What they publish meanwhile shares the next write, so the more there is, the less each
        record costs.
        """
        self._is_writing = False
        now_s = asyncio.get_running_loop().time()
        self._flush_after_s = now_s + min(now_s - begun_s, self._settings.join_max_s)
        self._schedule()

    def _frames(
        self, pending: dict[str, list[_Pending]], wanted: frozenset[tuple[str, Matcher]]
    ) -> list[Frame]:
        """Return the frames that are wanted, in the order in which their records were told."""
        entries: list[_Pending] = []
        for topic, matcher in wanted:
            of_topic = pending.get(topic, ())
            if matcher.takes_all:
                entries += of_topic
            else:
                entries += [entry for entry in of_topic if matcher.matches(entry.item.record)]
        if len(wanted) > 1:
            entries.sort(key=attrgetter("number"))
        maker, log = self._maker, self._log
        return [entry.frame(maker, log) for entry in entries]
