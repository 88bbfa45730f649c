"""The process over HTTP: health, readiness, lag, jobs, dead letters, settings."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from starlette.testclient import TestClient

from infra.operating import operations
from infra.settings import Settings
from schemas import topics as t
from schemas.codec import encode
from schemas.control import DeadLetter, RunManifest
from schemas.enums import AutonomyMode, BreakerState
from schemas.envelope import SCHEMA_VERSION
from schemas.errors import ConflictError, NewerSchemaError, StorageError
from schemas.retries import written_again
from schemas.risk import SetAutonomy
from streams.history import History
from streams.history import StorageState as StorageHealth
from streams.memory_log import MemoryLog
from tests.source_tree import ROOT
from tests.unit.web_examples import FakeJobs
from tests.unit.web_run import START_NS, Run, breaker, fast, filled_run, problem, submit, trade
from tests.unit.web_runs import FakeRuns
from web.operations import Component, JobState, Operations, StorageState, Version


@pytest.fixture
def run() -> Run:
    """Return a run with a little session and things around it."""
    operations = Operations(
        jobs=FakeJobs(),
        settings={"kafka": {"password_file": "***"}},
        version=Version("0.1.0", "hash", 1, "3.11.7"),
    )
    run = Run(operations=operations, runs=FakeRuns(backtest_1=filled_run()))
    run.log.append(filled_run())
    return run


@pytest.fixture
def client(run: Run) -> Iterator[TestClient]:
    """Give a client of ``run``."""
    with run.client() as client:
        yield client


# ---- health


class AwayStorage:
    """A database that lets nobody in."""

    holds_run = True

    def __init__(self, words: str) -> None:
        self._words = words

    @property
    def history(self) -> History:
        """Raise: nothing is asked here."""
        raise StorageError(self._words)

    def state(self) -> StorageHealth:
        """Return that it is away, in the driver's words."""
        return StorageHealth("away", "plain", "16", "", "", 0, 0, 0, 0, 0, 0, self._words)


def component(client: TestClient, name: str) -> dict[str, Any]:
    """Return one component of the health."""
    found = client.get("/api/system/health").json()["components"]
    return next(item for item in found if item["name"] == name)


def test_health_is_the_worst_of_all_components(run: Run, client: TestClient) -> None:
    assert client.get("/api/system/health").json()["status"] == "pass"

    run.append(client, [(t.RISK_BREAKER, breaker(BreakerState.HALTED))])

    assert component(client, "breaker")["status"] == "warn"
    assert client.get("/api/system/health").json()["status"] == "warn"


def test_database_that_is_away_makes_the_app_degraded_but_ready(
    run: Run, client: TestClient
) -> None:
    run.context.operations.storage = lambda: StorageState("postgresql", False, "no connection")

    assert component(client, "database")["status"] == "fail"
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    assert answer.json()["reasons"] == ["database: fail"]
    assert client.get("/api/system").json()["storage"]["tier"] == "postgresql"


def test_database_of_a_process_is_named_once_and_its_words_are_not_for_everybody(
    run: Run, client: TestClient
) -> None:
    words = "password authentication failed for user ada at 10.0.0.7"
    run.context.operations = operations(Settings(), AwayStorage(words))

    names = [item["name"] for item in client.get("/api/system/health").json()["components"]]
    assert names.count("database") == 1
    assert words in component(client, "database")["detail"]
    assert client.get("/readyz").json()["reasons"] == ["database: fail"]


def test_required_part_that_fails_makes_the_app_not_ready(run: Run, client: TestClient) -> None:
    stopped = Component("engine", "fail", "has stopped", is_required=True)
    run.context.operations.components.append(lambda: stopped)

    content = problem(client.get("/readyz"), 503)

    detail = "engine: fail; GET /api/system/health says why"
    assert (content["code"], content["detail"]) == ("not_ready", detail)


def test_market_data_do_not_pass_while_their_source_says_what_is_wrong(
    run: Run, client: TestClient
) -> None:
    assert component(client, "market data")["status"] == "pass"
    run.context.operations.feed = lambda: Component("market data", "fail", "all are refused")

    names = [item["name"] for item in client.get("/api/system/health").json()["components"]]
    assert names.count("market data") == 1
    assert component(client, "market data")["detail"] == "all are refused"
    assert client.get("/readyz").json()["reasons"] == ["market data: fail"]


class LateLog(MemoryLog):
    """A log that has more than it has told."""

    def written_offset(self, topic: str, partition: int = 0) -> int:
        """Return one more, or seven where nothing was told."""
        return {t.ORDER_FILLS: 3, t.ORDER_RECEIPTS: 7}.get(topic, self.end_offset(topic))


def lag(client: TestClient) -> tuple[int, dict[str, Any]]:
    """Return how many records are behind, and what is said of each topic."""
    answer = client.get("/api/system/lag").json()
    return answer["behind_records"], {item["topic"]: item for item in answer["topics"]}


def test_lag_is_what_is_written_and_not_told() -> None:
    run = Run(log=LateLog("run-1", lambda: START_NS + 3_000_000_002))
    run.log.append(filled_run())
    with run.client() as client:
        behind, topics = lag(client)

    assert behind == 8
    assert (topics[t.ORDER_FILLS]["behind_records"], topics[t.ORDER_FILLS]["age_s"]) == (1, 3.0)
    assert topics[t.ORDER_FILLS]["newest_ns"] == START_NS + 2
    nothing = dict.fromkeys(("newest", "newest_ns", "age_s", "silent_s"))
    assert topics[t.ORDER_RECEIPTS] == {
        "topic": t.ORDER_RECEIPTS, "behind_records": 7, **nothing
    }  # fmt: skip
    assert topics[t.ORDER_EVENTS]["behind_records"] == 0


def test_silence_of_a_topic_is_measured_by_the_wall_clock(run: Run, client: TestClient) -> None:
    clock = iter([100.0, 190.5])
    run.context.now_s = lambda: next(clock)
    assert lag(client)[1][t.MARKET_EVENTS]["silent_s"] is None

    run.append(client, [(t.MARKET_EVENTS, trade(165.2, at=5))])

    assert lag(client)[1][t.MARKET_EVENTS]["silent_s"] == 90.5


def test_topics_version_runs_and_settings_are_shown(client: TestClient) -> None:
    topics = {item["name"]: item for item in client.get("/api/system/topics").json()["topics"]}

    assert topics[t.ORDER_FILLS]["records"] == ["fill"]
    assert topics[t.ORDER_FILLS]["end_offset"] == 2
    assert client.get("/api/system/version").json()["python"] == "3.11.7"
    assert client.get("/api/system/storage").json()["tier"] == "none"
    runs = client.get("/api/system/runs").json()
    assert (runs["current"], [r["run_id"] for r in runs["runs"]]) == ("run-1", ["backtest-1"])
    settings = client.get("/api/system/config").json()["settings"]
    assert settings == {"kafka": {"password_file": "***"}}


# ---- jobs


def test_jobs_are_shown_and_run(client: TestClient) -> None:
    before = client.get("/api/system/scheduler").json()
    done = client.post("/api/system/scheduler/reconcile/run").json()

    assert (before["is_running"], before["jobs"][0]["last_status"]) == (True, "")
    assert before["jobs"][0]["next_run"] == "2013-10-07T13:30:00.000000000Z"
    assert (done["last_status"], done["last_result"]) == ("ok", "nothing differs")
    problem(client.post("/api/system/scheduler/nope/run"), 404)


class BusyJobs(FakeJobs):
    """A job that runs already."""

    async def run_now(self, name: str) -> JobState:
        """Refuse."""
        raise ConflictError("the job is running", field="name", value=name)


def test_job_that_runs_already_is_a_conflict(run: Run, client: TestClient) -> None:
    run.context.operations.jobs = BusyJobs()

    assert problem(client.post("/api/system/scheduler/reconcile/run"), 409)["code"] == (
        "already_running"
    )


def test_process_without_jobs_says_so() -> None:
    with Run().client() as client:
        assert client.get("/api/system/scheduler").json()["is_running"] is False
        problem(client.post("/api/system/scheduler/reconcile/run"), 404)


# ---- dead letters


def letter(name: str, topic: str = t.ACCOUNT_INPUTS, value: bytes = b"") -> tuple[str, DeadLetter]:
    """Return a dead letter."""
    return t.SYSTEM_DEAD_LETTERS, DeadLetter(
        event_id=name,
        ts_event_ns=START_NS,
        topic=topic,
        partition=0,
        offset=7,
        reason="broken",
        value=value,
    )


def test_letters_are_listed_newest_first_and_filtered(run: Run, client: TestClient) -> None:
    run.append(client, [letter("a"), letter("b", t.MARKET_EVENTS), letter("c")])

    first = client.get("/api/system/deadletters?limit=2").json()
    rest = client.get(f"/api/system/deadletters?limit=2&cursor={first['next_cursor']}").json()
    filtered = client.get(f"/api/system/deadletters?topic={t.MARKET_EVENTS}").json()

    assert [item["event_id"] for item in first["dead_letters"]] == ["c", "b"]
    assert [item["event_id"] for item in rest["dead_letters"]] == ["a"]
    assert [item["event_id"] for item in filtered["dead_letters"]] == ["b"]
    assert first["count"] == 3


def test_letter_is_written_again_to_its_topic(run: Run, client: TestClient) -> None:
    order = submit("again")
    run.append(client, [letter("a", value=encode(order))])
    before = run.log.end_offset(t.ACCOUNT_INPUTS)

    answer = client.post("/api/system/deadletters/retry", json={"event_id": "a"}).json()

    assert answer == {"event_id": "a", "topic": t.ACCOUNT_INPUTS, "status": "written"}
    assert run.log.read(t.ACCOUNT_INPUTS, before, 1)[0].record == written_again("a", order)


def test_record_of_a_producer_is_written_without_the_number_that_has_passed(
    run: Run, client: TestClient
) -> None:
    order = submit("again")
    numbered = msgspec.structs.replace(order, producer="strategy/0", producer_seq=3)
    run.append(client, [letter("a", value=encode(numbered))])
    before = run.log.end_offset(t.ACCOUNT_INPUTS)

    client.post("/api/system/deadletters/retry", json={"event_id": "a"})

    assert run.log.read(t.ACCOUNT_INPUTS, before, 1)[0].record == written_again("a", order)


class Resender:
    """Writes letters again, or does not, and says why."""

    def __init__(self, outcome: str | Exception) -> None:
        self.outcome = outcome
        self.letters: list[str] = []

    async def __call__(self, letter: DeadLetter) -> str:
        """Take a letter."""
        self.letters.append(letter.event_id)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


@pytest.mark.parametrize(
    ("outcome", "status", "code"),
    [
        ("", 200, ""),
        ("instrument IBM.XNYS is not known", 422, "record_unusable"),
        (ConflictError("the record was compacted away", remedy="ask"), 409, "record_not_kept"),
        (StorageError("no answer"), 503, "outcome_unknown"),
        (NewerSchemaError("a newer schema", offset=7), 422, "record_unusable"),
    ],
)
def test_letter_of_a_cluster_is_written_by_who_can_look_at_its_record(
    run: Run, client: TestClient, outcome: str | Exception, status: int, code: str
) -> None:
    resend = run.context.operations.resend = Resender(outcome)
    run.append(client, [letter("a", value=encode(submit("again")))])
    before = run.log.end_offset(t.ACCOUNT_INPUTS)

    response = client.post("/api/system/deadletters/retry", json={"event_id": "a"})

    assert resend.letters == ["a"]
    assert run.log.end_offset(t.ACCOUNT_INPUTS) == before
    if code:
        assert problem(response, status)["code"] == code
    else:
        assert response.json()["status"] == "written"


@pytest.mark.parametrize(
    ("value", "status", "code"),
    [(b"", 409, "record_not_kept"), (b"{", 422, "record_unusable")],
)
def test_letter_that_cannot_be_used_is_not_written(
    run: Run, client: TestClient, value: bytes, status: int, code: str
) -> None:
    run.append(client, [letter("a", value=value)])
    before = run.log.end_offset(t.ACCOUNT_INPUTS)

    response = client.post("/api/system/deadletters/retry", json={"event_id": "a"})

    assert problem(response, status)["code"] == code
    assert run.log.end_offset(t.ACCOUNT_INPUTS) == before
    problem(client.post("/api/system/deadletters/retry", json={"event_id": "nope"}), 404)


# ---- configuration


def test_autonomy_is_changed_by_a_command(run: Run, client: TestClient) -> None:
    response = client.put(
        "/api/config",
        json={"autonomy_mode": "SEMI_AUTOMATIC", "approval_timeout_s": 60, "reason": "new"},
    )

    assert (response.status_code, response.json()["autonomy_mode"]) == (200, "SEMI_AUTOMATIC")
    command = run.log.read(t.ACCOUNT_INPUTS, 3, 1)[0].record
    assert isinstance(command, SetAutonomy)
    assert (command.mode, command.approval_timeout_s) == (AutonomyMode.SEMI_AUTOMATIC, 60.0)


def test_time_to_approve_stays_where_only_the_mode_is_given() -> None:
    run = Run(fast(autonomy_mode="AUTOMATIC", approval_timeout_s=3600.0))
    with run.client() as client:
        shown = client.get("/api/config").json()
        changed = client.put("/api/config", json={"autonomy_mode": "SEMI_AUTOMATIC"}).json()
        client.put("/api/config", json={"autonomy_mode": "SEMI_AUTOMATIC", "approval_timeout_s": 5})
        again = client.put("/api/config", json={"autonomy_mode": "AUTOMATIC"}).json()

    assert [a["approval_timeout_s"] for a in (shown, changed, again)] == [3600.0, 3600.0, 5.0]
    commands = [item.record for item in run.log.read(t.ACCOUNT_INPUTS, 0, 9)]
    assert all(isinstance(command, SetAutonomy) for command in commands)
    assert [c.approval_timeout_s for c in commands] == [3600.0, 5.0, 5.0]  # type: ignore[attr-defined]


def test_time_to_approve_is_that_of_the_runs_manifest(run: Run, client: TestClient) -> None:
    accounts: dict[str, object] = {"autonomy": "SEMI_AUTOMATIC", "approval_timeout_s": 77.0}
    manifest = RunManifest(ts_event_ns=START_NS, run_id="run-1", config={"accounts": accounts})
    run.append(client, [(t.SYSTEM_RUNS, manifest)])

    assert client.get("/api/config").json()["approval_timeout_s"] == 77.0


def test_paper_trading_cannot_be_left(run: Run, client: TestClient) -> None:
    left = client.put("/api/config", json={"paper_trading": False})
    kept = client.put("/api/config", json={"paper_trading": True})

    assert problem(left, 409)["code"] == "paper_trading_only"
    assert (kept.status_code, kept.json()["paper_trading"]) == (200, True)
    assert run.log.end_offset(t.ACCOUNT_INPUTS) == 3


@pytest.mark.parametrize(
    ("content", "pointer"),
    [
        ({}, ""),
        ({"autonomy_mode": "WILD"}, "/autonomy_mode"),
        ({"autonomy_mode": "AUTOMATIC", "approval_timeout_s": 0}, "/approval_timeout_s"),
        ({"paper_trading": True, "approval_timeout_s": 60}, "/approval_timeout_s"),
        ({"paper_trading": True, "reason": "lunch"}, "/reason"),
        ({"speed": 60}, "/speed"),
    ],
)
def test_wrong_configuration_is_refused(
    client: TestClient, content: dict[str, Any], pointer: str
) -> None:
    errors = problem(client.put("/api/config", json=content), 422)["errors"]

    assert [error["pointer"] for error in errors] == [pointer]


# ---- version


@pytest.mark.parametrize("path", ["/openapi.json", "/asyncapi.json"])
def test_documents_name_the_program_and_apart_from_it_the_schemas(
    client: TestClient, path: str
) -> None:
    info = client.get(path).json()["info"]

    assert info["version"] == client.get("/api/system/version").json()["version"] == "0.1.0"
    assert info["x-schema-version"] == SCHEMA_VERSION
    assert f"schema version {SCHEMA_VERSION}" in info["description"]


def test_version_is_that_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert operations(Settings()).version.version == project["version"]
