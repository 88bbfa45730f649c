"""API keys: made once, shown once, kept as hashes in one file.

A key is ``mr_<id>_<secret>`` with a secret of 256 random bits. So much entropy needs no slow hash:
SHA-256 is kept, and compared in constant time. The file is read again when it changes, so a key
that ``millrace keys revoke`` ends is refused within a second, by every process on the machine.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from schemas.errors import ConfigError, NotFoundError, StorageError
from web.scopes import SCOPES

_PREFIX = "mr"
_LOOK_AGAIN_S = 1.0
_LIKE_A_KEY = re.compile(rf"{_PREFIX}_[A-Za-z0-9]+_[A-Za-z0-9_-]+")
_MASK = f"{_PREFIX}_***"
_NAME_MAX = 64


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """One key without its secret; times int64 ns UTC, 0 for never.

    ``accounts`` are those that it is bound to, all without any.
    """

    key_id: str
    name: str
    scopes: tuple[str, ...]
    digest: str
    created_ns: int
    expires_ns: int = 0
    revoked_ns: int = 0
    accounts: tuple[str, ...] = ()

    def is_good(self, now_ns: int) -> bool:
        """Return whether the key may be used at ``now_ns``."""
        return not self.revoked_ns and not (self.expires_ns and now_ns >= self.expires_ns)


class _Keys(msgspec.Struct):
    keys: list[ApiKey] = []


def without_keys(text: str) -> str:
    """Return a text with everything masked that looks like a key, for what is written down."""
    return _LIKE_A_KEY.sub(_MASK, text)


def secret_digest(secret: str) -> str:
    """Return what is kept of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def check_scopes(scopes: Iterable[str]) -> tuple[str, ...]:
    """Return scopes in the order of the list of all; raises ConfigError for one unknown."""
    wanted = set(scopes)
    for name in sorted(wanted - set(SCOPES)) or ([] if wanted else [""]):
        raise ConfigError(
            "there is no such scope",
            field="scope",
            value=name,
            remedy=f"choose of {', '.join(SCOPES)}",
        )
    return tuple(name for name in SCOPES if name in wanted)


def check_accounts(accounts: Iterable[str]) -> tuple[str, ...]:
    """Return accounts sorted; raises ConfigError for one that can be no account's id."""
    wanted = sorted(set(accounts))
    for name in wanted:
        if not 0 < len(name) <= _NAME_MAX or not name.isprintable() or " " in name:
            raise ConfigError(
                "this is no account's id",
                field="accounts",
                value=name[:_NAME_MAX],
                remedy="name accounts of the run, with commas; leave it out for all of them",
            )
    return tuple(wanted)


class KeyFile:
    """The keys of an installation.

    ``now_ns`` is the wall clock (int64 ns UTC), ``clock_s`` one that only goes forward. A file that
    is not there holds no keys; one that cannot be read raises StorageError with every use, so that
    nobody gets in by a broken file.
    """

    def __init__(self, path: Path, now_ns: Callable[[], int], clock_s: Callable[[], float]) -> None:
        self.path = path
        self._now_ns = now_ns
        self._clock_s = clock_s
        self._looked_s = float("-inf")
        self._stamp: tuple[int, int, int] | None = None
        self._by_id: dict[str, ApiKey] = {}

    # ---- use

    def find(self, text: str) -> ApiKey | None:
        """Return the key that ``text`` is, if it is one and may be used now."""
        prefix, _, rest = text.partition("_")
        key_id, _, secret = rest.partition("_")
        known = self.known(key_id)
        # A hash is made and compared for unknown ids as well: the time tells nothing.
        wanted = known.digest if known is not None else secret_digest("")
        is_same = hmac.compare_digest(secret_digest(secret), wanted)
        return known if is_same and known is not None and prefix == _PREFIX else None

    def known(self, key_id: str) -> ApiKey | None:
        """Return a key by its id if it may be used now."""
        self._look()
        if key_id not in self._by_id:
            self._look_now()  # it may have been made this very second
        key = self._by_id.get(key_id)
        return key if key is not None and key.is_good(self._now_ns()) else None

    def all(self) -> list[ApiKey]:
        """Return every key, revoked ones too, in the order they were made."""
        self._look_now()
        return list(self._by_id.values())

    def _look(self) -> None:
        """Read the file if it changed since the last look, a second ago at least."""
        if self._clock_s() - self._looked_s >= _LOOK_AGAIN_S:
            self._look_now()

    def _look_now(self) -> None:
        """Read the file if it changed since the last look."""
        now_s = self._clock_s()
        try:
            found = self.path.stat()
            stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
            if stamp != self._stamp:
                keys = msgspec.json.decode(self.path.read_bytes(), type=_Keys).keys
                self._by_id = {key.key_id: key for key in keys}
                self._stamp = stamp
        except FileNotFoundError:
            self._by_id, self._stamp = {}, None
        except (OSError, msgspec.MsgspecError) as error:
            self._by_id, self._stamp = {}, None
            raise StorageError(
                f"the file of API keys cannot be read: {error}",
                field="web.keys_file",
                value=str(self.path),
                remedy="bring it back from a copy, or remove it and make keys anew",
            ) from error
        self._looked_s = now_s

    # ---- change

    def make(
        self,
        name: str,
        scopes: Iterable[str],
        key_id: str,
        secret: str,
        expires_ns: int = 0,
        accounts: Iterable[str] = (),
    ) -> str:
        """Add a key and return its text, which is kept nowhere; without ``accounts`` it has all.

        ``key_id`` and ``secret`` are random. Raises ConfigError for an unknown scope or a name that
        is empty, too long or taken by a key that is good, or for an account without a name.
        """
        bound = check_accounts(accounts)
        chosen = check_scopes(scopes)
        now_ns = self._now_ns()
        with self._changing() as keys:
            taken = any(key.name == name and key.is_good(now_ns) for key in keys)
            if not 0 < len(name) <= _NAME_MAX or not name.isprintable() or taken:
                raise ConfigError(
                    "a key of that name is in use" if taken else "a key needs a short name",
                    field="name",
                    value=name[:_NAME_MAX],
                    remedy=f"choose another of 1 to {_NAME_MAX} printable characters",
                )
            keys.append(
                ApiKey(
                    key_id=key_id,
                    name=name,
                    scopes=chosen,
                    digest=secret_digest(secret),
                    created_ns=now_ns,
                    expires_ns=expires_ns,
                    accounts=bound,
                )
            )
        return f"{_PREFIX}_{key_id}_{secret}"

    def revoke(self, name_or_id: str) -> ApiKey:
        """End a key for ever; raises NotFoundError if there is none of that name or id in use."""
        now_ns = self._now_ns()
        with self._changing() as keys:
            for at, key in enumerate(keys):
                if name_or_id in (key.name, key.key_id) and not key.revoked_ns:
                    keys[at] = msgspec.structs.replace(key, revoked_ns=now_ns)
                    return keys[at]
        raise NotFoundError(
            "there is no such key",
            field="key",
            value=name_or_id,
            remedy="`millrace keys list` shows them",
        )

    @contextmanager
    def _changing(self) -> Iterator[list[ApiKey]]:
        """Give the keys to change; what is left in the list is written as a whole, or nothing."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.with_suffix(".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                keys = self.all()
                yield keys
                self._write(keys)
        except OSError as error:
            raise StorageError(
                f"the file of API keys cannot be written: {error.strerror or error}",
                field="web.keys_file",
                value=str(self.path),
                remedy="give this user the right to write there, or room on the disk",
            ) from error
        self._looked_s = float("-inf")

    def _write(self, keys: list[ApiKey]) -> None:
        text = msgspec.json.format(msgspec.json.encode(_Keys(keys)), indent=2)
        # Made readable for this user alone, before there is anything in it.
        number, name = tempfile.mkstemp(dir=self.path.parent, prefix=self.path.name)
        try:
            with os.fdopen(number, "wb") as file:
                file.write(text + b"\n")
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self.path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
