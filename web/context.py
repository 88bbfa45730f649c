"""What every handler is given: the log, its read models, settings, and what stands beside them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import cast

import msgspec

from schemas.control import ApiWrite
from schemas.envelope import Header
from schemas.errors import StorageError
from streams.history import NOW, History, Moment
from streams.log import Log
from web.hub import Hub
from web.operations import Operations
from web.own_history import OwnHistory
from web.problems import ProblemError, unavailable
from web.result_files import ResultFiles
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
    (``is_at_offset``). ``history`` is what a database holds of runs, None where there is none;
    ``is_stored`` where it alone knows the run. ``gate`` knows who may do what, None lets everybody
    do all; ``audit`` takes the record of every write.
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
        self.gate = gate
        self.audit = audit
        self.hub = Hub(log, settings, ids, views, gate)
        self.is_loaded = False
        self.run_id = log.run_id
        self.place = ""
        self.until_ns: int | None = None
        self.is_at_offset = False
        self.history = history
        self.is_stored = False
        self.operations = operations or Operations()
        mode = views.risk.autonomy_mode

        def make_views() -> Views:
            return Views(settings.history_max, mode)

        self.runs = FoldedRuns(runs or NoRuns(), make_views, log)
        self.results = ResultFiles(self.runs.store)
        self._stored_runs = StoredRuns(make_views)
        self._shares = StoredShares()
        self._accounts: Accounts | None = None

    @property
    def asks_database(self) -> bool:
        """Whether series are those of the database: of the running run, and where it alone has it.

        The read models of another instant hold their own.
        """
        return self.history is not None and (self.is_stored or not self.place)

    @property
    def moment(self) -> Moment:
        """The instant of the read models, as a database is asked for it.

        At an offset it is the newest: what memory let go of by then does not change any more.
        """
        return NOW if self.until_ns is None else Moment(self.until_ns - 1)

    async def at(self, run_id: str, as_of: str) -> Context:
        """Return this context with the read models of a run at a place.

        Raises ProblemError for an unknown run (404) or place (422), and while a database that may
        know the run is away (503).
        """
        place = parse_place(as_of)
        name = self.views.backtests.run_of(run_id) or run_id or self.log.run_id
        if name == self.log.run_id and self._is_present(place):
            return self
        scene = copy.copy(self)
        scene.run_id, scene.place = name, f"{name}@{as_of}"
        scene.is_at_offset = bool(place.topic)
        scene.until_ns = None if place.ts_ns is None else place.ts_ns + 1
        try:
            scene.views = await self.runs.views(name, place)
        except ProblemError as problem:
            if problem.status != 404 or self.history is None:
                raise
            views = await self._stored_runs.views(self.history, name, place)
            if views is None:
                row = await stored_backtest(self.history, name)
                if row is None or row.run_id in ("", name):
                    raise
                # The task of a backtest that memory does not know any more.
                return await self.at(row.run_id, as_of)
            scene.views, scene.is_stored = views, True
        return scene

    def _is_present(self, place: Place) -> bool:
        """Return whether the running run has not got further than to a place."""
        newest_ns = max(self.views.newest_ns.values(), default=0)
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
        the log refuses it.
        """
        if self._accounts is not None:
            check_command(record, self._accounts, self.views.account_of)
        try:
            await self.log.publish(topic, record)
        except StorageError as error:
            raise unavailable(
                f"the log does not take the command: {error.message}; {remedy}"
            ) from error
        except TimeoutError as error:
            raise unavailable(
                f"the log did not confirm the command in time, so its outcome is unknown; {remedy}",
                code="outcome_unknown",
            ) from error
