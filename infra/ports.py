"""Ports that commands are given."""

from __future__ import annotations

from schemas.errors import ConfigError

_PORT_MAX = 65_535


def check_port(port: int) -> None:
    """Raise ConfigError for a number that is no port."""
    if not 0 <= port <= _PORT_MAX:
        raise ConfigError(
            "there is no such port",
            field="port",
            value=port,
            remedy=f"give one from 1 to {_PORT_MAX}, or 0 for a free one",
        )
