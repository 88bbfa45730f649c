"""One WebSocket client: its requests, its subscriptions, and what waits for it.

Nothing here waits for another client: a slow one fills its own outbox and is cut off with its
cursor.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec
from starlette.websockets import WebSocket

from schemas.codec import encode
from schemas.errors import StorageError
from streams.log import Log
from web import frames
from web.access import Authenticator, Client
from web.bundle import PART_BYTES, PART_FRAMES, Part, part_of
from web.catching_up import CatchingUp, Expired, in_turn
from web.frames import REQUESTS, Auth, Cursor, Ping, Subscribe, Text, TopicPlace, Unsubscribe
from web.links import Link
from web.outbox import Outbox
from web.problems import ProblemError
from web.server_frames import (
    CLASSES,
    Authenticated,
    Disconnect,
    Error,
    Heartbeat,
    Held,
    Hello,
    Limits,
    Pong,
    ServerFrame,
    Snapshot,
    Subscribed,
    Unsubscribed,
)
from web.settings import WebSettings
from web.shared_pages import SharedPages
from web.subscription import Subscription, SubscriptionError, open_subscriptions
from web.times import format_time
from web.views.models import Views

UNSUPPORTED, POLICY, TOO_LARGE, TRY_LATER = 1003, 1008, 1009, 1013
"""Close codes: binary frame; malformed or too many; too large; full, or the log does not answer."""
UNKNOWN_CLIENT, SLOW, EXPIRED = 4401, 4408, 4410
"""Close codes: did not say who it is; too slow; what it asked for is no longer kept."""

_FAULTS = frozenset({UNSUPPORTED, POLICY, TOO_LARGE, UNKNOWN_CLIENT})
_SNAPSHOT_PART = 200
_HELD_BYTES = 64
"""What a record of a snapshot has around it, at most."""


def address_of(websocket: WebSocket) -> str:
    """Return the address that a client comes from, empty if the server does not know it."""
    return websocket.client.host if websocket.client is not None else ""


class Ending(NamedTuple):
    """Why the server ends a connection."""

    close_code: int
    code: str
    detail: str


class Groups(Protocol):
    """Who hands published records to the clients: the hub."""

    @property
    def turns(self) -> asyncio.Semaphore:
        """Bounds how many clients are given snapshots and history at once."""
        ...

    @property
    def pages(self) -> SharedPages:
        """The history that clients read, once for all who read the same."""
        ...

    def flush(self) -> None:
        """Hand over everything that was published, now."""
        ...

    def regroup(self, client: Connection) -> None:
        """Put a client among those that want the same."""
        ...


class Connection:
    """One client; ``subscriptions`` by topic, ``is_batched`` if its frames come as arrays.

    ``client`` is who it is, None until it says so.
    """

    def __init__(
        self,
        websocket: WebSocket,
        client: Client | None,
        link: Link,
        session: str,
        log: Log,
        views: Views,
        settings: WebSettings,
        access: Authenticator,
        groups: Groups,
    ) -> None:
        self.subscriptions: dict[str, Subscription] = {}
        self.is_batched = False
        self.client = client
        self.address = address_of(websocket)
        loop = asyncio.get_running_loop()
        self._now_s = loop.time
        self._websocket = websocket
        self._link = link
        self._session = session
        self._log = log
        self._views = views
        self._settings = settings
        self._access = access
        self._groups = groups
        self._outbox = Outbox(
            settings.outbox_max_frames, settings.outbox_max_bytes, settings.conflate_after_frames
        )
        self._drained = asyncio.Event()
        self._ending: asyncio.Future[Ending] = loop.create_future()
        self._history: set[asyncio.Task[None]] = set()
        self._sent: dict[tuple[str, int], int] = {}
        self._sent_at_s = self._ready_at_s = loop.time()
        self._tokens = float(settings.inbound_ops_burst)
        self._tokens_at_s = loop.time()
        link.on_ready = self._pump

    # ---- life

    async def run(self) -> None:
        """Serve the client until it leaves or is cut off."""
        self._tell(self._hello())
        deadline = asyncio.get_running_loop().call_later(
            self._settings.auth_timeout_s, self._check_known
        )
        reading = asyncio.create_task(self._read())
        tasks: set[asyncio.Task[None]] = {reading}
        try:
            waiting: list[asyncio.Future[Any]] = [reading, self._ending]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            deadline.cancel()
            self.subscriptions.clear()
            self._groups.regroup(self)
            tasks |= self._history
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        if self._ending.done():
            await self._say_goodbye(self._ending.result())
        self._link.end()
        for task in tasks:
            if not task.cancelled():
                task.result()

    def end(self, ending: Ending) -> None:
        """End the connection; the first reason counts."""
        if not self._ending.done():
            self._ending.set_result(ending)

    async def _say_goodbye(self, ending: Ending) -> None:
        """Send the last frame, with the cursor behind everything that was sent, and close."""
        kind = Error if ending.close_code in _FAULTS else Disconnect
        frame = kind(id="", code=ending.code, detail=ending.detail, cursor=self.cursor())
        self._link.send(part_of([frames.control(frame)], is_batched=self.is_batched))
        await self._link.close(ending.close_code, ending.code, self._settings.goodbye_timeout_s)

    def cursor(self) -> Cursor:
        """Return the place by topic, behind what was handed to the socket."""
        offsets: dict[str, dict[str, int]] = {}
        for (topic, partition), offset in sorted(self._sent.items()):
            offsets.setdefault(topic, {})[str(partition)] = offset
        return {
            topic: TopicPlace(self._log.epoch_of(topic), places)
            for topic, places in offsets.items()
        }

    def _check_known(self) -> None:
        if self.client is None:
            wait_s = self._settings.auth_timeout_s
            detail = f"no auth within {wait_s:g} s; send your key or ticket first"
            self.end(Ending(UNKNOWN_CLIENT, "auth_timeout", detail))

    # ---- sending

    def deliver(self, parts: Sequence[Part]) -> None:
        """Send what was published, shared with others that want the same; what cannot be waits."""
        for part in parts:
            if not self._outbox and self._link.is_ready:
                self._send(part)
            else:
                for frame in part.frames:
                    self._put(frame)

    def offer(self, item: Text) -> None:
        """Let a frame wait for the client; cuts the client off if that is one too many."""
        self._put(item)
        self._pump()

    def offer_all(self, items: Iterable[Text]) -> None:
        """Let frames wait for the client, and send them together."""
        for item in items:
            self._put(item)
        self._pump()

    def _put(self, item: Text) -> None:
        if self._ending.done():
            return
        if not self._outbox.put(item):
            detail = "the client reads too slowly; connect again and subscribe from the cursor"
            self.end(Ending(SLOW, "slow_consumer", detail))

    def _pump(self) -> None:
        """Send what waits as far as the link takes it."""
        while self._outbox and self._link.is_ready and not self._ending.done():
            items = self._outbox.take(PART_FRAMES, PART_BYTES)
            self._send(part_of(items, is_batched=self.is_batched))
        if not self._outbox.is_half_full:
            self._drained.set()

    def _send(self, part: Part) -> None:
        self._sent_at_s = self._ready_at_s = self._now_s()
        self._link.send(part)
        self._sent.update(part.ends)

    @property
    def has_room(self) -> bool:
        """Whether less than half of the outbox is full."""
        return not self._outbox.is_half_full

    async def room(self) -> None:
        """Wait until less than half of the outbox is full."""
        while not self.has_room:
            self._drained.clear()
            await self._drained.wait()

    def beat(self) -> None:
        """Send a heartbeat if nothing was sent for a while; cut off a client that takes nothing."""
        now_s = self._now_s()
        if self._link.is_ready:
            self._ready_at_s = now_s
            if now_s - self._sent_at_s >= self._settings.heartbeat_s:
                self._tell(Heartbeat(**self._time()))
        elif now_s - self._ready_at_s > self._settings.stall_timeout_s:
            detail = "the client takes nothing; connect again and subscribe from the cursor"
            self.end(Ending(SLOW, "stalled", detail))

    def _tell(self, frame: ServerFrame) -> None:
        self.offer(frames.control(frame))

    def _time(self) -> dict[str, Any]:
        now_ns = self._log.now_ns()
        return {"server_time": format_time(now_ns), "server_time_ns": now_ns}

    def _hello(self) -> Hello:
        s = self._settings
        limits = Limits(
            s.inbound_max_bytes, s.inbound_ops_per_s, s.outbox_max_frames, s.outbox_max_bytes
        )
        return Hello(
            session=self._session,
            run_id=self._log.run_id,
            epoch=self._log.epoch,
            is_authenticated=self.client is not None,
            auth_timeout_ms=round(1000 * s.auth_timeout_s),
            heartbeat_ms=round(1000 * s.heartbeat_s),
            limits=limits,
            topics=CLASSES,
            **self._time(),
        )

    # ---- requests

    async def _read(self) -> None:
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text")
            ending = self._refusal(text)
            if ending is None and text is not None:
                ending = await self._answer(text)
            if ending is not None:
                self.end(ending)
                return

    def _refusal(self, text: str | None) -> Ending | None:
        """Return why a frame cannot even be looked at."""
        if text is None:
            return Ending(
                UNSUPPORTED, "binary_frame", "only text frames are understood; send JSON text"
            )
        if (
            len(text) > self._settings.inbound_max_bytes
            or len(text.encode()) > self._settings.inbound_max_bytes
        ):
            detail = f"more than {self._settings.inbound_max_bytes} bytes; send smaller frames"
            return Ending(TOO_LARGE, "frame_too_large", detail)
        now_s = self._now_s()
        refill = (now_s - self._tokens_at_s) * self._settings.inbound_ops_per_s
        self._tokens = min(self._settings.inbound_ops_burst, self._tokens + refill) - 1
        self._tokens_at_s = now_s
        if self._tokens < 0:
            rate = self._settings.inbound_ops_per_s
            return Ending(
                POLICY, "rate_limited", f"more than {rate:g} requests a second; send fewer"
            )
        return None

    async def _answer(self, text: str) -> Ending | None:
        """Carry out one request; return why the connection must end, if it must."""
        try:
            request = REQUESTS.decode(text)
        except msgspec.ValidationError as error:
            detail = frames.fault_of(text, error)
            self._error(frames.id_of(text), "invalid_request", detail)
            return None
        except (msgspec.DecodeError, RecursionError) as error:
            return Ending(POLICY, "malformed_frame", f"the frame is not JSON: {error}")
        if isinstance(request, Ping):
            self._tell(Pong(id=request.id, **self._time()))
        elif isinstance(request, Auth):
            return await self._authenticate(request)
        elif self.client is None:
            self._error(request.id, "not_authenticated", "send auth with your key or ticket first")
        elif isinstance(request, Unsubscribe):
            self._unsubscribe(request)
        else:
            await self._subscribe(request, self.client)
        return None

    def _error(self, request_id: str | int, code: str, detail: str) -> None:
        self._tell(Error(id=request_id, code=code, detail=detail))

    async def _authenticate(self, request: Auth) -> Ending | None:
        try:
            found = await self._access.by_secret(request.secret, self.address)
        except ProblemError as problem:
            return Ending(TRY_LATER, problem.code, problem.detail)
        if found is None:
            detail = "this key or ticket is not known; it may have been revoked or used"
            return Ending(UNKNOWN_CLIENT, "unknown_secret", detail)
        known = self.client
        # What is subscribed was allowed to the first, and ends with its key.
        if known is not None and (known.key_id or self.subscriptions) and not found.is_as(known):
            detail = f"this connection is {known.name!r}'s; open another for another key"
            self._error(request.id, "already_authenticated", detail)
            return None
        self.client = found
        scopes = sorted(found.scopes)
        self._tell(Authenticated(id=request.id, name=found.name, scopes=scopes))
        return None

    def _unsubscribe(self, request: Unsubscribe) -> None:
        self._groups.flush()
        gone = [topic for topic in request.topics if self.subscriptions.pop(topic, None)]
        self._changed()
        self._tell(Unsubscribed(id=request.id, topics=gone))

    async def _subscribe(self, request: Subscribe, client: Client) -> None:
        try:
            opened = await open_subscriptions(request, self._log, client)
        except SubscriptionError as error:
            self._error(request.id, error.code, error.detail)
            return
        except StorageError as error:
            self._error(request.id, "log_unavailable", f"{error.message}; try again")
            return
        async with in_turn(self._groups.turns):
            self._open(request, opened)

    def _open(self, request: Subscribe, opened: list[Subscription]) -> None:
        # Nothing is awaited here: what was published before is handed over before, and nothing is
        # published between the snapshot and the first update.
        self._groups.flush()
        self.is_batched = self.is_batched or request.batch
        for subscription in opened:
            if request.origin == "latest":
                subscription.go_live(self._log)
            self.subscriptions[subscription.topic] = subscription
        self._tell(self._subscribed(request, opened))
        if request.snapshot:
            # Nobody has read of it before all of it stands in the outbox.
            room_bytes = self._settings.outbox_max_bytes * 3 // 4
            for subscription in opened:
                room_bytes = self._send_snapshot(request, subscription, room_bytes)
        self._changed()
        # Side by side, so that a long topic does not keep the others waiting.
        for subscription in opened:
            if subscription.is_live:
                continue
            task = asyncio.create_task(self._read_history(subscription))
            self._history.add(task)
            task.add_done_callback(self._history.discard)

    def _subscribed(self, request: Subscribe, opened: list[Subscription]) -> Subscribed:
        for item in opened:
            for partition, offset in enumerate(item.next_offsets):
                self._sent[item.topic, partition] = offset
        return Subscribed(
            id=request.id,
            topics={item.topic: CLASSES[item.topic] for item in opened},
            cursor={item.topic: item.place(self._log.epoch_of(item.topic)) for item in opened},
        )

    def _changed(self) -> None:
        whole = [item.topic for item in self.subscriptions.values() if item.keeps_all]
        self._outbox.keep_whole(frozenset(whole))
        self._groups.regroup(self)

    def _send_snapshot(
        self, request: Subscribe, subscription: Subscription, room_bytes: int
    ) -> int:
        """Send the newest records that have room; return how much room is left."""
        topic = subscription.topic
        kept = self._views.recent.of(topic)
        wanted = [item for item in kept if subscription.matcher.matches(item.record)]
        held: list[Held] = []
        for item in reversed(wanted):
            value = encode(item.record)
            room_bytes -= len(value) + _HELD_BYTES
            if room_bytes < 0:
                break
            held.append(Held(item.partition, item.offset, msgspec.Raw(value)))
        held.reverse()
        is_complete = self._views.recent.is_complete(topic) and len(held) == len(wanted)
        epoch = self._log.epoch_of(topic)
        for start in range(0, max(1, len(held)), _SNAPSHOT_PART):
            is_last = start + _SNAPSHOT_PART >= len(held)
            self._tell(
                Snapshot(
                    id=request.id,
                    topic=topic,
                    epoch=epoch,
                    records=held[start : start + _SNAPSHOT_PART],
                    is_last=is_last,
                    is_complete=is_complete,
                )
            )
        return max(room_bytes, 0)

    async def _read_history(self, subscription: Subscription) -> None:
        """Send what was written since the cursor, then let the subscription go on live."""
        try:
            catching_up = CatchingUp(
                self,
                subscription,
                self._log,
                self._settings,
                self._groups.turns,
                self._groups.pages,
            )
            await catching_up.run()
            if self.subscriptions.get(subscription.topic) is subscription:
                # Others have what was published up to here, this client has read it.
                self._groups.flush()
                subscription.is_live = True
                self._groups.regroup(self)
        except Expired as error:
            self.end(Ending(EXPIRED, "cursor_expired", str(error)))
        except StorageError as error:
            self.end(Ending(TRY_LATER, "log_unavailable", f"{error.message}; connect again"))
