"""The whole error tree of Millrace, in one place.

    MillraceError            everything that Millrace raises on purpose
    ├── InputError           somebody gave us something we cannot use: says what, where, remedy
    │   ├── ConfigError      a setting, limit or strategy parameter
    │   ├── DataError        a data set, file, column or row
    │   ├── RecordError      a record on a topic that cannot be read
    │   │   └── NewerSchemaError  by this program, which is too old for it
    │   └── NotFoundError    a name that does not exist (strategy, symbol, data set, run)
    ├── ConflictError        a request that contradicts what is already recorded
    ├── StorageError         the disk said no: full, read-only, torn in the middle
    │   ├── JournalError     a journal that contradicts itself
    │   └── UnconfirmedError  nobody said in time whether a record is stored
    └── InvariantError       a promise of ours is broken: stop, do not go on

Every error carries the field it is about, the value found and the remedy, so that the one line a
person sees says what is wrong, where, and how to mend it.
"""

from __future__ import annotations

from collections.abc import Iterable


class MillraceError(Exception):
    """Base of every error that Millrace raises on purpose.

    ``str()`` gives one line: the message, then field and value where they are known, then the
    remedy.
    """

    def __init__(
        self, message: str, *, field: str = "", value: object = None, remedy: str = ""
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.value = value
        self.remedy = remedy

    def __str__(self) -> str:
        text = self.message
        if self.field:
            text += f" ({self.field}={self.value!r})"
        if self.remedy:
            text += f"; {self.remedy}"
        return text


def field_in(text: str, fields: Iterable[str]) -> str:
    """Return which of ``fields`` the text of an error is about, empty if none.

    For errors of which a record has carried nothing but the text.
    """
    return next((field for field in fields if f"({field}=" in text), "")


def parts_of(text: str, field: str, value: object) -> tuple[str, str]:
    """Return message and remedy of an error of which a record has carried nothing but the text.

    They stand before and behind the field and its value; a text that does not name both is all
    message.
    """
    message, named, remedy = text.partition(f" ({field}={value!r})")
    return (message, remedy.removeprefix("; ")) if named else (text, "")


class InputError(MillraceError):
    """Input from outside that cannot be used."""


class ConfigError(InputError):
    """A setting, limit or parameter that cannot be used."""


class DataError(InputError):
    """Market data that cannot be used."""


class RecordError(InputError):
    """A record that cannot be decoded or is not valid on its topic."""


class NewerSchemaError(RecordError):
    """A record of a schema version that this program does not know yet: stop, do not go past it.

    ``offset`` is where it stands on its partition, -1 where there is none.
    """

    def __init__(
        self,
        message: str,
        *,
        field: str = "",
        value: object = None,
        remedy: str = "",
        offset: int = -1,
    ) -> None:
        super().__init__(message, field=field, value=value, remedy=remedy)
        self.offset = offset


class NotFoundError(InputError):
    """A name that does not exist."""


class ConflictError(MillraceError):
    """A request that contradicts what is recorded already."""


class StorageError(MillraceError):
    """The disk refused, or what is on it cannot be trusted."""


class JournalError(StorageError):
    """A journal that contradicts itself."""


class UnconfirmedError(StorageError):
    """A record that may be stored, or be stored later: nobody confirmed it in time."""


class InvariantError(MillraceError):
    """A promise of the engine is broken; nothing may go on from here."""
