"""How to reach a Kafka cluster: addresses, encryption, who we are.

Secrets never appear in a representation of the settings, so that neither a log line nor an error
can show them.
"""

from __future__ import annotations

import ssl
from typing import Any

import msgspec

from schemas.errors import ConfigError

PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")

FETCH_WAIT_MS = 25
"""How long a broker may keep a fetch that finds nothing.

The client has one fetch under way and asks only for partitions whose buffers are empty: whatever
comes to the others meanwhile waits until it returns.
"""


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """Where a cluster is and how to talk to it.

    ``bootstrap`` is host:port, several with commas; ``ca_file`` of "" takes the system's
    authorities; ``certificate_file`` and ``key_file`` are a client's own. Raises ConfigError for a
    value that does not exist or does not go with the others.
    """

    bootstrap: str = "127.0.0.1:9092"
    protocol: str = "PLAINTEXT"
    mechanism: str = "SCRAM-SHA-512"
    username: str = ""
    password: str = ""
    ca_file: str = ""
    certificate_file: str = ""
    key_file: str = ""
    request_timeout_s: float = 8.0

    def __post_init__(self) -> None:
        _check("kafka.protocol", self.protocol, PROTOCOLS)
        _check("kafka.mechanism", self.mechanism, MECHANISMS)
        for address in self.servers():
            host, _, port = address.rpartition(":")
            if not host or not port.isdigit() or not 0 < int(port) < 65536:
                raise ConfigError(
                    "an address of Kafka cannot be read",
                    field="kafka.bootstrap",
                    value=address,
                    remedy="write host:port, several with commas",
                )
        if self.is_sasl() and not (self.username and self.password):
            raise ConfigError(
                f"{self.protocol} needs a user and a password",
                field="kafka.username" if not self.username else "kafka.password",
                value="",
                remedy="set kafka.username, and kafka.password_file or MILLRACE_KAFKA_PASSWORD",
            )

    def __repr__(self) -> str:
        user = f"{self.username}@" if self.username else ""
        return f"Connection({self.protocol} {user}{self.bootstrap})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Show rich what ``repr`` shows: msgspec would give it every field, the password too."""
        return [("", repr(self))]

    def servers(self) -> list[str]:
        """Return the addresses."""
        return [part.strip() for part in self.bootstrap.split(",")]

    def is_sasl(self) -> bool:
        """Return whether the cluster asks who we are."""
        return self.protocol.startswith("SASL")

    def ssl_context(self) -> ssl.SSLContext | None:
        """Return what encrypts the link, or None; raises ConfigError for an unreadable file."""
        if not self.protocol.endswith("SSL"):
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca_file or None)
            if self.certificate_file:
                context.load_cert_chain(self.certificate_file, self.key_file or None)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"a certificate of Kafka cannot be used: {error}",
                field="kafka.ca_file",
                value=self.ca_file or self.certificate_file,
                remedy="give PEM files that this user can read",
            ) from error
        return context

    def client(self) -> dict[str, Any]:
        """Return the arguments that every client of aiokafka takes."""
        arguments: dict[str, Any] = {
            "bootstrap_servers": self.servers(),
            "security_protocol": self.protocol,
            "ssl_context": self.ssl_context(),
            "request_timeout_ms": round(self.request_timeout_s * 1000),
        }
        if self.is_sasl():
            arguments["sasl_mechanism"] = self.mechanism
            arguments["sasl_plain_username"] = self.username
            arguments["sasl_plain_password"] = self.password
        return arguments


def _check(field: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(
            "no such choice", field=field, value=value, remedy=f"choose one of {', '.join(choices)}"
        )


def missing_topic(topic: str) -> ConfigError:
    """Return the error that a topic is not on the cluster, or not for this user to see."""
    return ConfigError(
        "Kafka does not have this topic, or does not show it to this user",
        field="topic",
        value=topic,
        remedy="`millrace topics apply` creates it; if it is there, grant the user Describe on it",
    )
