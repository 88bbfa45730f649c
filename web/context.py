"""What every handler is given: the log, its read models, settings, and what stands beside them."""

from __future__ import annotations

import copy
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import cast

import msgspec

from schemas.control import ApiWrite
from schemas.envelope import Header
from schemas.errors import StorageError, UnconfirmedError
from streams.history import NOW, History, Moment
from streams.log import Log, Published
from web.history import stored
from web.hub import Hub
from web.operations import Operations
from web.own_history import OwnHistory
from web.problems import ProblemError, unavailable
from web.result_files import ResultFiles
from web.retries import Retries
from web.runs import END, FoldedRuns, NoRuns, Place, RunStore, parse_place
from web.security.accounts import Accounts, check_command, not_own
from web.security.gatekeeper import Gatekeeper
from web.settings import WebSettings
from web.stored_backtests import stored_backtest
from web.stored_runs import StoredRuns
from web.stored_shares import Stored, StoredShares
from web.views.lots import Lots
from web.views.models import Views
from web.views.portfolio import Curve
from web.waiting import Waiters


class Context:
    """The app's state; ``is_loaded`` once the read models hold what the log held at the start.

    ``run_id`` is the run that the read models are of, and ``place`` the instant of it, empty for
    the present one. An instant is a time, then ``until_ns`` is the first ns behind it, or an offset
    (``is_at_offset``). ``is_stored`` where a database alone knows the run. ``gate`` knows who may
    do what, None lets everybody do all; ``audit`` takes the record of every write.
    """

    def __init__(
        self,
        log: Log,
        settings: WebSettings,
        ids: Callable[[], str],
        views: Views,
        runs: RunStore | None = None,
        history: History | None = None,
        operations: Operations | None = None,
        gate: Gatekeeper | None = None,
        audit: Callable[[ApiWrite], None] = lambda _: None,
    ) -> None:
        self.log = log
        self.settings = settings
        self.ids = ids
        self.views = views
        self.waiters = Waiters()
        self.retries = Retries()
        self.gate = gate
        self.audit = audit
        self.hub = Hub(log, settings, ids, views, gate)
        self.is_loaded = False
        self.now_s = time.monotonic
        self._told_s: dict[str, float] = {}
        self.run_id = log.run_id
        self.place = ""
        self.until_ns: int | None = None
        self.is_at_offset = False
        self._database = history
        self.is_stored = False
        self.operations = operations or Operations()
        mode, timeout_s = views.risk.autonomy_mode, views.risk.approval_timeout_s

        def make_views() -> Views:
            return Views(settings.history_max, mode, timeout_s)

        self.runs = FoldedRuns(runs or NoRuns(), make_views, log)
        self.results = ResultFiles(self.runs.store)
        self._stored_runs = StoredRuns(make_views)
        self._shares = StoredShares()
        self._accounts: Accounts | None = None
        self._present = self

    def hear(self, published: Sequence[Published]) -> None:
        """Take in what the log tells."""
        now_s = self.now_s()
        for topic in {item.topic for item in published}:
            self._told_s[topic] = now_s
        # Read models first: whoever is woken or told by the others may ask them.
        self.views.apply(published)
        self.waiters.apply(published)
        self.hub.apply(published)

    def silent_s(self, topic: str) -> float | None:
        """Return for how long (s) nothing of a topic was told; None if nothing has been."""
        told_s = self._told_s.get(topic)
        return None if told_s is None else self.now_s() - told_s

    @property
    def history(self) -> History | None:
        """What a database holds of runs; None where there is none, or none stores the running run.

        A web app over Kafka may have a database at hand that no sink fills.
        """
        is_running = self.run_id == self.log.run_id
        return None if is_running and not self.operations.holds_run() else self._database

    @history.setter
    def history(self, history: History | None) -> None:
        self._database = history

    async def series(self, newest_ns: int, *, is_whole: bool) -> History | None:
        """Return the database if a series is to be read there, None if memory is to tell it.

        Series of the running run are those of the database, and where it alone knows the run. The
        read models of another run or instant tell their own where it ``is_whole``; else the
        database does, if it has the run as far as ``newest_ns``, the end of what memory has.
        Raises ProblemError (503) while the database is away.
        """
        if self.history is None or self.is_stored or not self.place:
            return self.history
        if is_whole or self.is_at_offset or self._present.history is None:
            return None
        found = (await stored(self._present.history.runs(1, "", self.run_id))).items
        is_known = bool(found) and (found[0].last_ns or 0) >= newest_ns
        return self.history if is_known else None

    @property
    def moment(self) -> Moment:
        """The instant of the read models, as a database is asked for it.

        At an offset it is the newest: what memory let go of by then does not change any more.
        """
        return NOW if self.until_ns is None else Moment(self.until_ns - 1)

    async def at(self, run_id: str, as_of: str, *, is_stored: bool = True) -> Context:
        """Return this context with the read models of a run at a place.

        ``is_stored``: read models out of the database will do. Raises ProblemError for an unknown
        run or one that is not kept whole (404) or place (422), and while a database that may know
        the run is away (503).
        """
        place = parse_place(as_of)
        name = self.views.backtests.run_of(run_id) or run_id or self.log.run_id
        if name == self.log.run_id and self._is_present(place):
            return self._present if self.place else self
        scene = copy.copy(self)
        scene.run_id, scene.place = name, f"{name}@{as_of}"
        scene.is_at_offset = bool(place.topic)
        scene.until_ns = None if place.ts_ns is None else place.ts_ns + 1
        prefers_stored = is_stored and scene._is_cut(place)
        try:
            scene.views, scene.is_stored = await scene._folded(place, prefers_stored)
        except ProblemError as problem:
            is_unknown = problem.status == 404
            row = await stored_backtest(scene.history, name) if is_unknown else None
            if row is None or row.run_id in ("", name):
                raise
            # The task of a backtest that memory does not know any more.
            return await self.at(row.run_id, as_of, is_stored=is_stored)
        return scene

    async def _folded(self, place: Place, prefers_stored: bool) -> tuple[Views, bool]:
        """Return the read models of this run at a place, and whether they are the database's."""
        history, ask = self.history, self._stored_runs.views
        if history is not None and prefers_stored:
            views = await ask(history, self.run_id, place, is_running=True)
            if views is not None:
                return views, True
        try:
            return await self.runs.views(self.run_id, place), False
        except ProblemError as problem:
            if problem.status != 404 or history is None:
                raise
            views = await ask(history, self.run_id, place)
            if views is None:
                raise
            return views, True

    def _is_cut(self, place: Place) -> bool:
        """Return whether a time of the running run is asked about that the log may not tell of.

        Where it can be told from farther away, that takes long; a database has it at once.
        """
        is_time = place.ts_ns is not None and self.run_id == self.log.run_id
        return is_time and not self._present.views.has_all(self.log)

    def _is_present(self, place: Place) -> bool:
        """Return whether the running run has not got further than to a place."""
        newest_ns = max(self._present.views.newest_ns.values(), default=0)
        return place == END or (place.ts_ns is not None and place.ts_ns >= newest_ns)

    def share_deadline(self) -> AbstractAsyncContextManager[None]:
        """Bound all that ``lots`` and ``curve`` read for one answer; raises ProblemError (503)."""
        return self._shares.deadline()

    async def lots(self, account_id: str, strategy_id: str) -> Lots:
        """Return lots and trades that hold those of a strategy in an account.

        Raises ProblemError: 404 if not all of them are stored, 503 while the database is away.
        """
        run = self._stored_for(account_id)
        if run is None:
            return self.views.lots
        return await self._shares.lots(run, account_id, strategy_id)

    async def curve(self, account_id: str, strategy_id: str) -> Curve:
        """Return the equity curve of an account or a share; raises ProblemError (503)."""
        run = self._stored_for(account_id)
        if run is None:
            return self.views.portfolio.curves.get((account_id, strategy_id), Curve())
        return await self._shares.curve(run, account_id, strategy_id)

    def _stored_for(self, account_id: str) -> Stored | None:
        if not self.is_stored or self.history is None:
            return None
        # What was folded of a run is kept for all callers.
        if self._accounts is not None and account_id not in self._accounts:
            raise not_own(self._accounts, "another account's history is not told")
        return Stored(self.history, self.run_id, self.views, self.until_ns)

    def of_accounts(self, accounts: Accounts) -> Context:
        """Return this context as a key that is bound to accounts sees it, for one request.

        The account that is meant where none is named is one of them.
        """
        scene = copy.copy(self)
        scene._accounts = accounts
        scene.views = self.views.of(accounts)
        if self.history is not None:
            # Its other questions are of routes that such a key cannot use.
            scene.history = cast("History", OwnHistory(self.history, accounts))
        if self.settings.default_account_id not in accounts:
            scene.settings = msgspec.structs.replace(
                self.settings, default_account_id=min(accounts)
            )
        return scene

    @property
    def accounts(self) -> Accounts | None:
        """The accounts that the caller's key is bound to; None for a key of all."""
        return self._accounts

    @property
    def is_bound(self) -> bool:
        """Whether the caller's key is bound to accounts."""
        return self._accounts is not None

    def check_is_present(self) -> None:
        """Raise ProblemError (409) if the read models are not those of the running run."""
        if self.place:
            raise ProblemError(
                409, "not_live", f"{self.place} is history; nothing can be done there"
            )

    async def publish(self, topic: str, record: Header, remedy: str) -> None:
        """Publish a command.

        Raises ProblemError: 403 if it reaches beyond the caller's accounts, 503 with ``remedy`` if
        the log refuses it, or does not say in time whether it has it (``outcome_unknown``).
        """
        if self._accounts is not None:
            check_command(record, self._accounts, self.views.account_of)
        await self.confirmed(self.log.publish(topic, record), remedy)

    async def confirmed(self, writing: Awaitable[None], remedy: str) -> None:
        """Wait for what the log says to a record; raises ProblemError (503) as ``publish`` does."""
        try:
            await writing
        except (TimeoutError, UnconfirmedError) as error:
            raise unavailable(
                f"the log did not confirm the command in time, so its outcome is unknown; {remedy}",
                code="outcome_unknown",
            ) from error
        except StorageError as error:
            raise unavailable(
                f"the log does not take the command: {error.message}; {remedy}"
            ) from error
