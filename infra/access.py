"""How the API may be reached, from the settings: who is asked for a key, TLS, a proxy in front.

Loopback asks nobody, unless the settings say so. Every other interface needs keys, and TLS or a
proxy that speaks it; without them the app does not start.
"""

from __future__ import annotations

import ipaddress
import secrets
import time
from pathlib import Path
from typing import NamedTuple

from infra.cli_keys import key_file
from infra.settings import Settings
from schemas.errors import ConfigError
from web.security.gatekeeper import Gatekeeper, Limits
from web.security.sessions import Sessions
from web.server import Tls

_SECRET_BYTES = 32
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


class Access(NamedTuple):
    """What the app and its server are made with; ``scheme`` is what clients of the server speak."""

    gate: Gatekeeper
    allowed_hosts: tuple[str, ...]
    tls: Tls | None
    proxies: tuple[str, ...]

    @property
    def scheme(self) -> str:
        """The scheme of the server's addresses."""
        return "https" if self.tls is not None else "http"


def is_loopback(host: str) -> bool:
    """Return whether only programs of this machine reach an interface."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def access_of(settings: Settings, host: str) -> Access:
    """Return how the API is reached on ``host``.

    Raises ConfigError for an interface that others reach without keys or without TLS, and for
    files that are not there.
    """
    web = settings.web
    tls = _tls(settings)
    keys = key_file(settings)
    is_open = is_loopback(host) and web.access == "auto" and not web.behind_proxy
    if not is_loopback(host) and tls is None and not web.behind_proxy:
        raise ConfigError(
            "an interface that others reach needs TLS",
            field="run.host",
            value=host,
            remedy="give web.tls_certificate and web.tls_key, or set web.behind_proxy if a proxy"
            " speaks TLS in front; or use 127.0.0.1 and a tunnel",
        )
    if not is_open and not any(key.is_good(time.time_ns()) for key in keys.all()):
        raise ConfigError(
            "the API asks for keys, and there is none",
            field="web.keys_file",
            value=str(keys.path),
            remedy="make one: `millrace keys make NAME --scopes read,trade`",
        )
    gate = Gatekeeper(
        keys,
        Sessions(time.monotonic, lambda: secrets.token_urlsafe(_SECRET_BYTES)),
        time.monotonic,
        is_open=is_open,
        is_secure=tls is not None or web.behind_proxy,
        limits=Limits(web.requests_per_s, web.requests_burst),
    )
    hosts = (*_LOOPBACK_NAMES, *web.allowed_hosts)
    if not is_loopback(host):
        hosts = (*hosts, host)
    return Access(gate, hosts, tls, web.proxies if web.behind_proxy else ())


def _tls(settings: Settings) -> Tls | None:
    web = settings.web
    if not web.tls_certificate and not web.tls_key:
        return None
    for field, name in (
        ("web.tls_certificate", web.tls_certificate),
        ("web.tls_key", web.tls_key),
    ):
        if not name or not Path(name).is_file():
            raise ConfigError(
                "TLS needs a certificate and its key",
                field=field,
                value=name,
                remedy="name two PEM files that this user can read",
            )
    return Tls(web.tls_certificate, web.tls_key)
