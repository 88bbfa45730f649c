"""Connections to brokers that tell of their end as such, under uvloop too.

uvloop raises RuntimeError when somebody writes to a transport that is closed already; between the
end of a connection and the turn of the loop in which its reader hears of it that can happen at any
request. The client expects OSError alone (reported upstream as aiokafka issue 1038): the task that
keeps its metadata fresh dies of the other for good, and a consumer or producer ends that could have
connected again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import aiokafka.conn
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError


class Link(AIOKafkaConnection):  # type: ignore[misc]  # the client is not typed
    """A connection that raises KafkaConnectionError for a request after its end."""

    def send(self, request: Any, expect_response: bool = True) -> Any:
        """Send a request, and return what waits for its answer."""
        with self._telling():
            return super().send(request, expect_response)

    def _send_sasl_token(self, payload: bytes, expect_response: bool = True) -> Any:
        with self._telling():
            return super()._send_sasl_token(payload, expect_response)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        writer = self._writer
        try:
            yield
        except RuntimeError as error:
            if writer is None or not writer.is_closing():
                raise
            self.close(reason=CloseReason.CONNECTION_BROKEN)
            raise KafkaConnectionError(
                f"the connection to {self.host}:{self.port} has ended: {error}"
            ) from error


def use_links() -> None:
    """Let all clients of this process connect by ``Link``; the client has no setting for it."""
    aiokafka.conn.AIOKafkaConnection = Link
