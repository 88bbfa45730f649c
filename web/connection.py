"""One WebSocket client: reads its requests, sends what waits for it, ends when it falls behind.

Nothing here waits for another client: a slow one fills its own outbox and is cut off with its
cursor.
"""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from schemas.topics import CATALOGUE, TOPIC_BY_NAME
from streams.log import Log
from web.frames import (
    REQUESTS,
    Cursor,
    Frame,
    Ping,
    Subscribe,
    Unsubscribe,
    control,
    data_frame,
    id_of,
    snapshot_frame,
)
from web.outbox import Outbox, gap_frame
from web.settings import WebSettings
from web.subscription import Subscription, SubscriptionError, open_subscriptions
from web.times import format_time
from web.views.models import Views

UNSUPPORTED, POLICY, TOO_LARGE, TRY_LATER, SLOW = 1003, 1008, 1009, 1013, 4408
"""Close codes: binary frame; malformed or too many; too large; server full; client too slow."""

_SEND_AT_ONCE = 256
_PAGE = 500
_SNAPSHOT_PART = 200


class Ending(NamedTuple):
    """Why the server ends a connection."""

    close_code: int
    code: str
    detail: str


class Connection:
    """One client; ``subscriptions`` by topic."""

    def __init__(
        self, websocket: WebSocket, session: str, log: Log, views: Views, settings: WebSettings
    ) -> None:
        self.subscriptions: dict[str, Subscription] = {}
        self._websocket = websocket
        self._session = session
        self._log = log
        self._views = views
        self._settings = settings
        self._outbox = Outbox(
            settings.outbox_max_frames, settings.outbox_max_bytes, settings.conflate_after_frames
        )
        self._wake = asyncio.Event()
        self._drained = asyncio.Event()
        self._ending: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._history: set[asyncio.Task[None]] = set()
        self._sent: dict[tuple[str, int], int] = {}
        self._is_batched = False
        self._tokens = float(settings.inbound_ops_burst)
        self._tokens_at = asyncio.get_running_loop().time()

    # ---- life

    async def run(self) -> None:
        """Serve the client until it leaves or is cut off."""
        self._tell(self._hello())
        tasks = [asyncio.create_task(work()) for work in (self._read, self._write)]
        try:
            waiting: list[asyncio.Future[Any]] = [*tasks, self._ending]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.subscriptions.clear()
            tasks += self._history
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        if self._ending.done():
            await self._say_goodbye(self._ending.result())
        for task in tasks:
            error = None if task.cancelled() else task.exception()
            if error is not None and not isinstance(error, WebSocketDisconnect):
                raise error

    def end(self, ending: Ending) -> None:
        """End the connection; the first reason counts."""
        if not self._ending.done():
            self._ending.set_result(ending)

    def offer(self, item: Frame | str) -> None:
        """Let a frame wait for the client; cuts the client off if that is one too many."""
        if self._ending.done():
            return
        if not self._outbox.put(item):
            detail = "the client reads too slowly; connect again and subscribe from the cursor"
            self.end(Ending(SLOW, "slow_consumer", detail))
        self._wake.set()

    async def _say_goodbye(self, ending: Ending) -> None:
        """Send the last frame, with the cursor behind everything that was sent, and close."""
        is_fault = ending.close_code in (UNSUPPORTED, POLICY, TOO_LARGE)
        frame = {
            "op": "error" if is_fault else "disconnect",
            "id": "",
            "code": ending.code,
            "detail": ending.detail,
            "cursor": self.cursor(),
            "epoch": self._log.epoch,
        }
        text = control([frame] if self._is_batched else frame)
        try:
            async with asyncio.timeout(self._settings.goodbye_timeout_s):
                await self._websocket.send_text(text)
                await self._websocket.close(ending.close_code, ending.code)
        except (TimeoutError, WebSocketDisconnect):
            return  # The peer takes nothing more; the server drops the socket.

    def cursor(self) -> Cursor:
        """Return the next offset by topic and partition, behind what was handed to the socket."""
        cursor: Cursor = {}
        for (topic, partition), offset in sorted(self._sent.items()):
            cursor.setdefault(topic, {})[str(partition)] = offset
        return cursor

    # ---- sending

    async def _write(self) -> None:
        while True:
            items = self._outbox.take(_SEND_AT_ONCE)
            if not items:
                await self._idle()
                continue
            texts = [item.text if isinstance(item, Frame) else item for item in items]
            if self._is_batched:
                await self._websocket.send_text(f"[{','.join(texts)}]")
                self._note_sent(items)
            else:
                for item, text in zip(items, texts, strict=True):
                    await self._websocket.send_text(text)
                    self._note_sent([item])
            if not self._outbox.is_half_full:
                self._drained.set()

    async def _idle(self) -> None:
        """Wait for something to send; after a quiet while that is a heartbeat."""
        self._wake.clear()
        try:
            async with asyncio.timeout(self._settings.heartbeat_s):
                await self._wake.wait()
        except TimeoutError:
            self._tell({"op": "heartbeat", **self._time()})

    def _note_sent(self, items: list[Frame | str]) -> None:
        for item in items:
            if isinstance(item, Frame):
                self._sent[item.topic, item.partition] = item.offset + 1

    def _tell(self, content: dict[str, object]) -> None:
        self.offer(control(content))

    def _time(self) -> dict[str, object]:
        now_ns = self._log.now_ns()
        return {"server_time": format_time(now_ns), "server_time_ns": now_ns}

    def _hello(self) -> dict[str, object]:
        s = self._settings
        limits = {
            "inbound_max_bytes": s.inbound_max_bytes,
            "inbound_ops_per_s": s.inbound_ops_per_s,
            "outbox_max_frames": s.outbox_max_frames,
            "outbox_max_bytes": s.outbox_max_bytes,
        }
        topics = {topic.name: topic.websocket for topic in CATALOGUE}
        return {
            "op": "hello",
            "session": self._session,
            "run_id": self._log.run_id,
            "epoch": self._log.epoch,
            **self._time(),
            "limits": limits,
            "heartbeat_ms": round(1000 * s.heartbeat_s),
            "topics": topics,
        }

    # ---- requests

    async def _read(self) -> None:
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text")
            ending = self._refusal(text)
            if ending is None and text is not None:
                ending = self._answer(text)
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
        now_s = asyncio.get_running_loop().time()
        refill = (now_s - self._tokens_at) * self._settings.inbound_ops_per_s
        self._tokens = min(self._settings.inbound_ops_burst, self._tokens + refill) - 1
        self._tokens_at = now_s
        if self._tokens < 0:
            rate = self._settings.inbound_ops_per_s
            return Ending(
                POLICY, "rate_limited", f"more than {rate:g} requests a second; send fewer"
            )
        return None

    def _answer(self, text: str) -> Ending | None:
        """Carry out one request; return why the connection must end if the frame is no JSON."""
        try:
            request = REQUESTS.decode(text)
        except msgspec.ValidationError as error:
            self._error(id_of(text), "invalid_request", f"{error}; see hello and the documentation")
            return None
        except (msgspec.DecodeError, RecursionError) as error:
            return Ending(POLICY, "malformed_frame", f"the frame is not JSON: {error}")
        if isinstance(request, Ping):
            self._tell({"op": "pong", "id": request.id, **self._time()})
        elif isinstance(request, Unsubscribe):
            gone = [topic for topic in request.topics if self.subscriptions.pop(topic, None)]
            self._tell({"op": "unsubscribed", "id": request.id, "topics": gone})
        else:
            self._subscribe(request)
        return None

    def _error(self, request_id: str | int, code: str, detail: str) -> None:
        self._tell({"op": "error", "id": request_id, "code": code, "detail": detail})

    def _subscribe(self, request: Subscribe) -> None:
        try:
            opened = open_subscriptions(request, self._log, self._views)
        except SubscriptionError as error:
            self._error(request.id, error.code, error.detail)
            return
        self._is_batched = self._is_batched or request.batch
        cursor = {
            item.topic: {str(partition): offset for partition, offset in item.next_offsets.items()}
            for item in opened
        }
        classes = {item.topic: TOPIC_BY_NAME[item.topic].websocket for item in opened}
        self._tell(
            {
                "op": "subscribed",
                "id": request.id,
                "topics": classes,
                "epoch": self._log.epoch,
                "cursor": cursor,
            }
        )
        for subscription in opened:
            if request.snapshot:
                self._send_snapshot(request, subscription)
            self.subscriptions[subscription.topic] = subscription
        behind = [item for item in opened if not item.is_live]
        if behind:
            task = asyncio.create_task(self._read_history(behind))
            self._history.add(task)
            task.add_done_callback(self._history.discard)

    def _send_snapshot(self, request: Subscribe, subscription: Subscription) -> None:
        topic = subscription.topic
        kept = self._views.recent.of(topic)
        items = [item for item in kept if subscription.matcher.matches(item.record)]
        for start in range(0, max(1, len(items)), _SNAPSHOT_PART):
            part = items[start : start + _SNAPSHOT_PART]
            is_last = start + _SNAPSHOT_PART >= len(items)
            self.offer(snapshot_frame(request.id, topic, self._log.epoch, part, is_last=is_last))

    async def _read_history(self, behind: list[Subscription]) -> None:
        """Send what was written since the cursor, then let the subscription go on live."""
        for subscription in behind:
            topic = subscription.topic
            if subscription.skipped_to is not None:
                first = subscription.next_offsets[0]
                self.offer(gap_frame(topic, 0, first, subscription.skipped_to, "no_longer_kept"))
            # A newer subscription to the topic takes the place of this one.
            while self.subscriptions.get(topic) is subscription:
                page = self._log.read(topic, subscription.next_offsets[0], _PAGE)
                if not page:
                    subscription.is_live = True
                    break
                for item in page:
                    if subscription.matcher.matches(item.record):
                        await self._room()
                        self.offer(data_frame(item, self._log.epoch))
                subscription.next_offsets[0] = page[-1].offset + 1
                await asyncio.sleep(0)

    async def _room(self) -> None:
        while self._outbox.is_half_full:
            self._drained.clear()
            await self._drained.wait()
