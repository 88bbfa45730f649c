"""The ``[kafka]`` table of the settings, and the connection that it and the environment make.

MILLRACE_KAFKA_BOOTSTRAP wins over the table's address. The password comes from a file or from
MILLRACE_KAFKA_PASSWORD, never from the settings, which are hashed, recorded and shown.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec

from schemas.errors import ConfigError
from streams.feeds import check_kinds
from streams.kafka.connection import Connection

_TIMEOUT_MIN_S = 6.0
"""Brokers take no member of a group that promises signs of life more often than that."""

_RUN = re.compile(r"[A-Za-z0-9._-]{1,100}")
_TIMEOUT_MAX_S = 300.0
_STALL_MIN_S = 5.0


class KafkaSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the cluster is, how to reach it, how its topics are kept, and how workers work.

    ``run`` names the session on the cluster and its consumer groups, ``kinds`` what its market data
    are, ``kinds_of`` what those of single instruments are. A worker without progress for
    ``stall_timeout_s`` ends.
    """

    bootstrap: str = "127.0.0.1:9092"
    protocol: str = "PLAINTEXT"
    mechanism: str = "SCRAM-SHA-512"
    username: str = ""
    password_file: str = ""
    ca_file: str = ""
    certificate_file: str = ""
    key_file: str = ""
    request_timeout_s: float = 8.0
    replication: int = 1
    min_in_sync_replicas: int = 1
    run: str = "kafka"
    kinds: tuple[str, ...] = ("trade", "quote")
    kinds_of: dict[str, tuple[str, ...]] = {}
    snapshot_interval_s: float = 10.0
    stall_timeout_s: float = 60.0


def addressed(settings: KafkaSettings, bootstrap: str | None = None) -> KafkaSettings:
    """Return the settings with the address that counts: ``bootstrap``, else the environment's."""
    address = bootstrap or os.environ.get("MILLRACE_KAFKA_BOOTSTRAP") or settings.bootstrap
    return msgspec.structs.replace(settings, bootstrap=address)


def connection_of(settings: KafkaSettings) -> Connection:
    """Return the connection to the address that is in the settings.

    Raises ConfigError for a password file that cannot be read or settings that do not go together.
    """
    if not _TIMEOUT_MIN_S <= settings.request_timeout_s <= _TIMEOUT_MAX_S:
        raise ConfigError(
            "a worker cannot live with this timeout",
            field="kafka.request_timeout_s",
            value=settings.request_timeout_s,
            remedy=f"give {_TIMEOUT_MIN_S:g} to {_TIMEOUT_MAX_S:g} seconds",
        )
    if not settings.stall_timeout_s >= _STALL_MIN_S:
        raise ConfigError(
            "a worker that works would be taken for one that hangs",
            field="kafka.stall_timeout_s",
            value=settings.stall_timeout_s,
            remedy=f"give {_STALL_MIN_S:g} seconds or more",
        )
    if not _RUN.fullmatch(settings.run):
        raise ConfigError(
            "a session cannot have this name, which its consumer groups bear too",
            field="kafka.run",
            value=settings.run,
            remedy="use up to 100 letters, digits and . _ -",
        )
    check_kinds("kafka.kinds", settings.kinds)
    for symbol, kinds in settings.kinds_of.items():
        check_kinds(f"kafka.kinds_of.{symbol}", kinds)
    return Connection(
        bootstrap=settings.bootstrap,
        protocol=settings.protocol,
        mechanism=settings.mechanism,
        username=settings.username,
        password=_password(settings),
        ca_file=settings.ca_file,
        certificate_file=settings.certificate_file,
        key_file=settings.key_file,
        request_timeout_s=settings.request_timeout_s,
    )


def _password(settings: KafkaSettings) -> str:
    if not settings.password_file:
        return os.environ.get("MILLRACE_KAFKA_PASSWORD", "")
    try:
        return Path(settings.password_file).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            "the password of Kafka cannot be read",
            field="kafka.password_file",
            value=settings.password_file,
            remedy="give a text file that this user can read",
        ) from error
