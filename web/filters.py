"""Which records of a topic a subscriber wants."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from schemas.envelope import Header
from web.security.accounts import Accounts, is_own

Names = Annotated[list[str], Meta(min_length=1, max_length=500)]


class Filters(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Allowed values by field; ``type`` is the record's type, such as ``trade``.

    A record without a field passes that field's filter, so one set of filters serves several
    topics.
    """

    type: Names | None = None
    instrument_id: Names | None = None
    account_id: Names | None = None
    strategy_id: Names | None = None
    client_order_id: Names | None = None
    task_id: Names | None = None


class Matcher:
    """Filters, made quick to ask; equal filters make equal matchers.

    With ``accounts`` only records that are of one of them pass.
    """

    __slots__ = ("_accounts", "_fields", "_hash", "_types", "takes_all")

    def __init__(self, filters: Filters, accounts: Accounts | None = None) -> None:
        self._accounts = accounts
        self._types = None if filters.type is None else frozenset(filters.type)
        self._fields = tuple(
            (name, frozenset(values))
            for name in filters.__struct_fields__
            if name != "type" and (values := getattr(filters, name)) is not None
        )
        self.takes_all = self._types is None and not self._fields and accounts is None
        self._hash = hash((self._types, self._fields, accounts))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Matcher)
            and self._types == other._types
            and self._fields == other._fields
            and self._accounts == other._accounts
        )

    def matches(self, record: Header) -> bool:
        """Return whether the subscriber wants ``record``, and may see it."""
        if self._accounts is not None and not is_own(record, self._accounts):
            return False
        if self._types is not None and record.__struct_config__.tag not in self._types:
            return False
        for name, allowed in self._fields:
            value = getattr(record, name, None)
            if value is not None and value not in allowed:
                return False
        return True
