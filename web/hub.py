"""All WebSocket clients: every published record is encoded once and offered to who wants it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from starlette.websockets import WebSocket

from streams.log import Log, Published
from web.connection import TRY_LATER, Connection, Ending
from web.frames import data_frame
from web.settings import WebSettings
from web.views.models import Views

_GOING_AWAY = 1001


class Hub:
    """The clients of one app."""

    def __init__(
        self, log: Log, settings: WebSettings, ids: Callable[[], str], views: Views
    ) -> None:
        self._log = log
        self._settings = settings
        self._ids = ids
        self._views = views
        self._clients: set[Connection] = set()

    @property
    def client_count(self) -> int:
        """How many clients are connected."""
        return len(self._clients)

    async def serve(self, websocket: WebSocket) -> None:
        """Serve one client until it leaves; refuses it when there are too many."""
        await websocket.accept()
        if len(self._clients) >= self._settings.clients_max:
            await websocket.close(TRY_LATER, "too many clients")
            return
        client = Connection(websocket, self._ids(), self._log, self._views, self._settings)
        self._clients.add(client)
        try:
            await client.run()
        finally:
            self._clients.discard(client)

    def apply(self, published: Sequence[Published]) -> None:
        """Offer records to the clients that subscribed to them; never waits for any."""
        if not self._clients:
            return
        epoch = self._log.epoch
        clients = list(self._clients)
        for item in published:
            frame = None
            for client in clients:
                subscription = client.subscriptions.get(item.topic)
                if subscription is not None and subscription.wants(item):
                    frame = frame or data_frame(item, epoch)
                    client.offer(frame)

    def close(self) -> None:
        """End all connections, each with its cursor."""
        for client in list(self._clients):
            client.end(Ending(_GOING_AWAY, "server_stops", "the server stops; connect again later"))
