"""What every handler is given: the log, its read models, settings and a source of ids."""

from __future__ import annotations

from collections.abc import Callable

from schemas.envelope import Header
from schemas.errors import StorageError
from streams.log import Log
from web.hub import Hub
from web.problems import unavailable
from web.settings import WebSettings
from web.views.models import Views
from web.waiting import Waiters


class Context:
    """The app's state; ``is_loaded`` once the read models hold what the log held at the start."""

    def __init__(
        self, log: Log, settings: WebSettings, ids: Callable[[], str], views: Views
    ) -> None:
        self.log = log
        self.settings = settings
        self.ids = ids
        self.views = views
        self.waiters = Waiters()
        self.hub = Hub(log, settings, ids, views)
        self.is_loaded = False

    async def publish(self, topic: str, record: Header, remedy: str) -> None:
        """Publish a command; raises ProblemError (503) with ``remedy`` if the log refuses it."""
        try:
            await self.log.publish(topic, record)
        except StorageError as error:
            raise unavailable(
                f"the log does not take the command: {error.message}; {remedy}"
            ) from error
        except TimeoutError as error:
            raise unavailable(
                f"the log did not confirm the command in time, so its outcome is unknown; {remedy}",
                code="outcome_unknown",
            ) from error
