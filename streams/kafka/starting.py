"""Starts clients of Kafka, and says in one line why one could not be started; stops them.

A client that finds no broker says no more than that; why is in its log. So the addresses are tried
once more then, one by one, and what each says is told with the setting that it is about.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Coroutine
from typing import Any

from aiokafka.conn import create_conn
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    IllegalSaslStateError,
    KafkaError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    UnsupportedSaslMechanismError,
    for_code,
)
from aiokafka.protocol.admin import SaslHandShakeRequest

from schemas.errors import ConfigError, MillraceError, StorageError
from streams.kafka.connection import Connection
from streams.kafka.links import use_links

_START_TIMEOUT_S = 20.0
_STOP_TIMEOUT_S = 10.0
_LOOK_TIMEOUT_S = 10.0
_NO_MECHANISM = "NONE"
_NOT_ALLOWED = (
    TopicAuthorizationFailedError,
    GroupAuthorizationFailedError,
    ClusterAuthorizationFailedError,
)
_GRANT = "grant this user the rights that docs/kafka.md lists"
_CHECK = "start it (`millrace kafka start`), or check address and credentials"

_log = logging.getLogger(__name__)


async def start_client(client: Any, connection: Connection) -> None:
    """Start a producer, consumer or admin client of aiokafka; one that cannot start is closed.

    Raises ConfigError for settings that the cluster does not accept (protocol, credentials,
    certificates), StorageError if it does not answer, and UnknownTopicOrPartitionError of the
    client for one that was made for a topic which is not there.
    """
    use_links()
    try:
        async with asyncio.timeout(_START_TIMEOUT_S):
            await client.start()
    except UnknownTopicOrPartitionError:
        await _close(client)
        raise  # it has answered
    except _NOT_ALLOWED as error:
        await _close(client)
        raise _not_allowed(connection, f"begin: {error}") from error
    except (KafkaError, OSError, TimeoutError) as error:
        await _close(client)
        raise await reason(connection, error) from error


async def stop_client(client: Any) -> None:
    """Disconnect a producer or consumer of aiokafka, in bounded time, whatever the cluster does."""
    # A stop that broke off leaves connections open; a producer names them without an underscore.
    links = client.client if hasattr(client, "client") else client._client
    for close in (client.stop, links.close):
        try:
            await has_ended(close(), _STOP_TIMEOUT_S)
        except (KafkaError, OSError) as error:
            _log.warning("a client of Kafka did not stop in order: %r", error)


async def has_ended(work: Coroutine[Any, Any, Any], timeout_s: float) -> bool:
    """Wait for closing work, and raise what it raises; return whether it ended in time.

    When a broker has gone away, a consumer of aiokafka lets the cancellation of a fetch of its own
    out of ``stop``. In a task of its own that does not pass for a cancellation of the caller.
    """
    task = asyncio.create_task(work)
    try:
        await asyncio.wait({task}, timeout=timeout_s)
    finally:
        is_over = task.done()
        task.cancel()
    if is_over and not task.cancelled():
        task.result()
    return is_over


async def _close(client: Any) -> None:
    await (stop_client(client) if hasattr(client, "stop") else client.close())


async def reason(connection: Connection, error: BaseException) -> MillraceError:
    """Return why no client can be started; ``error`` is what the client said."""
    found: MillraceError | None = None
    for address in connection.servers():
        seen = await _look(connection, address)
        if isinstance(seen, ConfigError):
            return seen
        found = found or seen
    return found or no_answer(connection, str(error) or type(error).__name__)


def no_answer(connection: Connection, why: str) -> StorageError:
    """Return the error of a cluster that does not answer."""
    return _broken(connection, f"Kafka does not answer: {why}", _CHECK)


def failed(
    connection: Connection, what: str, error: BaseException, remedy: str = ""
) -> StorageError:
    """Return the error that something could not be done; ``error`` is what the client said."""
    text = f"{what}: {str(error) or type(error).__name__}"
    is_refused = isinstance(error, _NOT_ALLOWED)
    return _broken(connection, text, _GRANT if is_refused else remedy or _CHECK)


def ended(connection: Connection, stage: str, error: BaseException) -> BaseException:
    """Return the error to tell of what ended a stage's work: that of the client in our words."""
    if isinstance(error, _NOT_ALLOWED):
        return _not_allowed(connection, f"work on the {stage} stage: {error}")
    if isinstance(error, KafkaError | OSError):
        return failed(connection, f"the {stage} stage cannot go on", error)
    return error


def _not_allowed(connection: Connection, what: str) -> ConfigError:
    return ConfigError(
        f"Kafka does not allow this user to {what}",
        field="kafka.username",
        value=connection.username,
        remedy=_GRANT,
    )


def _broken(connection: Connection, text: str, remedy: str) -> StorageError:
    return StorageError(text, field="kafka.bootstrap", value=connection.bootstrap, remedy=remedy)


async def _look(connection: Connection, address: str) -> MillraceError | None:
    """Connect once; return what stands against it, None if nothing does."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    terms = connection.client()
    del terms["bootstrap_servers"]
    try:
        async with asyncio.timeout(_LOOK_TIMEOUT_S):
            link = await create_conn(host, int(port), **terms)
            try:
                asks = not connection.is_sasl() and await _asks_for_sasl(link)
            finally:
                link.close()
    except ssl.SSLCertVerificationError as error:
        return ConfigError(
            f"the certificate of {address} is not trusted: {error.verify_message}",
            field="kafka.ca_file",
            value=connection.ca_file or "the system's authorities",
            remedy="give the certificate of the authority that signed the brokers', as PEM, and"
            " address them by names that theirs hold",
        )
    except SaslAuthenticationFailed:
        return ConfigError(
            f"{address} refuses this user or this password",
            field="kafka.username",
            value=connection.username,
            remedy="check kafka.username, kafka.mechanism and the password (kafka.password_file or"
            " MILLRACE_KAFKA_PASSWORD)",
        )
    except UnsupportedSaslMechanismError:
        return _misfit(address, "does not offer this mechanism", "mechanism", connection.mechanism)
    except IllegalSaslStateError:
        return _misfit(address, "does not ask for a user", "protocol", connection.protocol)
    except (ConnectionRefusedError, TimeoutError) as error:
        is_late = isinstance(error, TimeoutError)
        what = "says nothing" if is_late else "has nobody who listens"
        return no_answer(connection, f"{address} {what}")
    except (KafkaError, OSError) as error:
        return await _other_protocol(connection, address, host, int(port), error)
    if asks:
        return _misfit(address, "asks for a user", "protocol", connection.protocol)
    return None


async def _asks_for_sasl(link: Any) -> bool:
    """Return whether a listener wants a user: one that does not calls the question out of place."""
    answer = await link.send(SaslHandShakeRequest(_NO_MECHANISM))
    return for_code(answer.error_code) is not IllegalSaslStateError


async def _other_protocol(
    connection: Connection, address: str, host: str, port: int, error: BaseException
) -> MillraceError:
    """Return whether TLS is spoken on one side alone, or else what was said."""
    if connection.protocol.endswith("SSL"):
        if await _speaks_plainly(host, port):
            return _misfit(address, "does not speak TLS", "protocol", connection.protocol)
    elif await _speaks_tls(host, port):
        return _misfit(address, "speaks TLS", "protocol", connection.protocol)
    return no_answer(connection, f"{address}: {str(error) or type(error).__name__}")


async def _speaks_plainly(host: str, port: int) -> bool:
    """Return whether a port answers Kafka's first question without TLS."""
    try:
        async with asyncio.timeout(_LOOK_TIMEOUT_S):
            (await create_conn(host, port)).close()
    except (KafkaError, OSError, TimeoutError):
        return False
    return True


async def _speaks_tls(host: str, port: int) -> bool:
    """Return whether a port answers a TLS greeting."""
    context = ssl.create_default_context()
    # Nothing is sent here; who answers does not matter.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(_LOOK_TIMEOUT_S):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


def _misfit(address: str, what: str, setting: str, value: str) -> ConfigError:
    remedies = {
        "does not offer this mechanism": "choose one that the listener has",
        "does not ask for a user": "use PLAINTEXT or SSL, or the port of another listener",
        "asks for a user": "use SASL_PLAINTEXT or SASL_SSL with kafka.username, or another port",
        "speaks TLS": "use SSL or SASL_SSL, or the port of another listener",
        "does not speak TLS": "use PLAINTEXT or SASL_PLAINTEXT, or the port of another listener",
    }
    return ConfigError(
        f"{address} {what}", field=f"kafka.{setting}", value=value, remedy=remedies[what]
    )
