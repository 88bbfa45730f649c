"""Live feeds of a run: the adapter that the settings name, and what it serves as a source."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from infra.plugins import Plugins
from infra.settings import SourceSettings
from schemas.control import InputRange
from schemas.errors import ConfigError, MillraceError
from schemas.instruments import Instrument, Universe
from streams.datasets.base import select_ids
from streams.feeds import FEEDS, FeedAdapter, check_kinds, make_adapter, one_line

GROUP = "millrace.feeds"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

_PLUGINS: Plugins[FeedAdapter] = Plugins(
    FeedAdapter,  # type: ignore[type-abstract]
    FEEDS,
    group=GROUP,
    noun="feed adapter",
    field="source.feed",
    public_name="millrace.FeedAdapter",
)


class LiveSource:
    """What a live feed will bring, for ``compose``: instruments and kinds instead of history.

    ``name`` is the source in every record. ``universe`` has the instruments that ``symbols`` choose
    (all of them if there are none), ``unselected`` the ids of the others. ``kinds_of`` tells for
    symbols or instrument ids of which other ``kinds`` come. ``first_ns`` to ``until_ns`` is the
    range of the session calendars that the run knows. Raises NotFoundError for a symbol that is not
    served.
    """

    def __init__(
        self,
        name: str,
        instruments: Sequence[Instrument],
        kinds: Sequence[str],
        symbols: Sequence[str],
        *,
        first_ns: int,
        until_ns: int,
        kinds_of: Mapping[str, Sequence[str]] = {},
    ) -> None:
        self.name = name
        # By id, whatever order the adapter gives: bars of one instant come in this order.
        served = Universe(sorted(instruments, key=lambda item: item.instrument_id))
        chosen = select_ids(served, symbols or None)
        self.universe = Universe([i for i in served.instruments if i.instrument_id in chosen])
        self.unselected = frozenset(i.instrument_id for i in served.instruments) - chosen
        self._kinds_of = dict.fromkeys(chosen, frozenset(kinds))
        for symbol, others in kinds_of.items():
            for instrument_id in select_ids(served, [symbol]) & chosen:
                self._kinds_of[instrument_id] = frozenset(others)
        self.kinds = frozenset(kinds).union(*self._kinds_of.values())
        self.intervals = frozenset(k.partition("/")[2] for k in self.kinds if k.startswith("bar/"))
        self._first_ns = first_ns
        self._until_ns = until_ns

    def inputs(
        self,
        start_ns: int | None = None,
        end_ns: int | None = None,
        symbols: Sequence[str] | None = None,
    ) -> list[InputRange]:
        """Return an entry for each instrument and kind; what will come has no count and no hash."""
        chosen = select_ids(self.universe, symbols)
        return [
            InputRange(
                source=self.name,
                kind=kind,
                instrument_id=instrument_id,
                count=0,
                first_ts_ns=self._first_ns if start_ns is None else start_ns,
                last_ts_ns=self._until_ns if end_ns is None else end_ns,
                content_hash="",
            )
            for instrument_id in sorted(chosen)
            for kind in sorted(self._kinds_of[instrument_id])
        ]


def open_feed(
    source: SourceSettings, first_ns: int, until_ns: int
) -> tuple[FeedAdapter, LiveSource]:
    """Return the adapter that the settings name, not yet connected, and what it serves.

    Raises NotFoundError for one that does not exist, and ConfigError for wrong options or an
    adapter that does not keep to its contract.
    """
    name, cls, _ = _PLUGINS.resolve(source.feed)
    adapter = make_adapter(cls, source.options)
    name = adapter.name or name
    if not _NAME.fullmatch(name):
        raise _breach(
            "its name cannot stand in a record", name, "use letters, digits and . _ - in `name`"
        )
    kinds = adapter.kinds
    try:
        check_kinds("kinds", kinds)
    except ConfigError as error:
        raise _breach(
            "it announces kinds of data that do not exist", list(kinds), error.remedy
        ) from error
    try:
        instruments = list(adapter.instruments())
    except MillraceError:
        raise
    except Exception as error:
        raise _breach(
            f"its instruments() failed: {one_line(error)}", name, "mend the adapter"
        ) from error
    if not instruments or not all(isinstance(item, Instrument) for item in instruments):
        raise _breach("its instruments() are no list of Instrument", name,
                      "return at least one Instrument")  # fmt: skip
    return adapter, LiveSource(
        f"feed/{name}", instruments, kinds, source.symbols, first_ns=first_ns, until_ns=until_ns
    )


def _breach(message: str, value: object, remedy: str) -> ConfigError:
    return ConfigError(
        f"the feed adapter cannot be used: {message}",
        field="source.feed",
        value=value,
        remedy=remedy,
    )
