"""The ``[database]`` table of the settings, and the connection that it and the environment make.

MILLRACE_DATABASE_DSN wins over the table; its value ``off`` switches the database off. A DSN with
a password comes from there or from a file, never from the settings, which are shown. Without a DSN
the database is the embedded one.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import msgspec

from schemas.errors import ConfigError
from streams.database.connecting import PoolSettings


class DatabaseSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where history is stored, and how long.

    ``keep_days`` has for a table the days after which its rows are dropped, by the time of the
    records; what it does not name is kept. A query may take ``statement_timeout_s``.
    """

    enabled: bool = True
    dsn: str = ""
    dsn_file: str = ""
    readers_max: int = 8
    writers_max: int = 4
    statement_timeout_s: float = 5.0
    write_timeout_s: float = 60.0
    keep_days: dict[str, float] = {}


_OFF = "off"


def is_wanted(settings: DatabaseSettings) -> bool:
    """Return whether history is stored; MILLRACE_DATABASE_DSN=off switches it off as well."""
    return settings.enabled and os.environ.get("MILLRACE_DATABASE_DSN") != _OFF


def dsn_of(settings: DatabaseSettings) -> str:
    """Return the DSN; empty for the embedded database.

    Raises ConfigError for a file that cannot be read, a DSN that is none, or one with a password in
    the settings.
    """
    given = os.environ.get("MILLRACE_DATABASE_DSN", "")
    if given and given != _OFF:
        return _checked(given, "MILLRACE_DATABASE_DSN")
    if settings.dsn_file:
        try:
            return _checked(Path(settings.dsn_file).read_text().strip(), "database.dsn_file")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                "the DSN of the database cannot be read",
                field="database.dsn_file",
                value=settings.dsn_file,
                remedy="give a text file that this user can read",
            ) from error
    if not settings.dsn:
        return ""
    parts = urlsplit(_checked(settings.dsn, "database.dsn"))
    if parts.password is not None or "password" in parse_qs(parts.query):
        raise ConfigError(
            "a password does not belong into the settings",
            field="database.dsn",
            value="(not shown)",
            remedy="put the DSN into a file and name it as database.dsn_file,"
            " or give it as MILLRACE_DATABASE_DSN",
        )
    return settings.dsn


def _checked(dsn: str, field: str) -> str:
    if not dsn.startswith(("postgresql://", "postgres://")):
        raise ConfigError(
            "this is not the DSN of a PostgreSQL",
            field=field,
            value="(not shown)",
            remedy="give one like postgresql://user@host:5432/database",
        )
    return dsn


def pools_of(settings: DatabaseSettings) -> PoolSettings:
    """Return sizes and time limits; raises ConfigError for what cannot be."""
    for name in ("readers_max", "writers_max", "statement_timeout_s", "write_timeout_s"):
        value = getattr(settings, name)
        if not value > 0:
            raise ConfigError(
                "a size or time limit of the database must be above 0",
                field=f"database.{name}",
                value=value,
                remedy="leave it out for the default",
            )
    if settings.writers_max < 2:
        raise ConfigError(
            "a sink and its upkeep need two connections",
            field="database.writers_max",
            value=settings.writers_max,
            remedy="give 2 or more",
        )
    return PoolSettings(
        readers_max=settings.readers_max,
        writers_max=settings.writers_max,
        statement_timeout_s=settings.statement_timeout_s,
        write_timeout_s=settings.write_timeout_s,
    )
