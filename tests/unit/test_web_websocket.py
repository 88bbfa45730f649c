"""The WebSocket: snapshot, updates, filters, resume, gaps, and clients that break a rule."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from starlette.testclient import TestClient, WebSocketDenialResponse, WebSocketTestSession
from starlette.websockets import WebSocketDisconnect

from schemas import topics as t
from schemas.envelope import Header
from schemas.topics import CATALOGUE
from streams.memory_log import MemoryLog
from tests.unit.web_gate import Gate, bearer
from tests.unit.web_run import (
    START_NS,
    Run,
    accepted,
    fast,
    filled,
    filled_run,
    mark,
    position,
    submit,
    submitted,
    trade,
)
from web.access import Client
from web.scopes import READ
from web.server_frames import AnyServerFrame, Gap, Heartbeat


class Socket:
    """A client of ``/ws`` that has taken the hello."""

    def __init__(self, session: WebSocketTestSession) -> None:
        self.session = session
        self.hello = self.receive()

    def receive(self) -> Any:
        """Return the next frame."""
        return json.loads(self.session.receive_text())

    def send(self, **request: Any) -> None:
        """Send a request."""
        self.session.send_text(json.dumps(request))

    def ask(self, **request: Any) -> Any:
        """Send a request and return the next frame."""
        self.send(**request)
        return self.receive()

    def subscribe(self, *topics: str, **fields: Any) -> Any:
        """Subscribe and return the answer."""
        return self.ask(op="subscribe", id="s", topics=list(topics), **fields)

    def drain(self) -> list[Any]:
        """Return the frames up to the answer of a ping."""
        self.send(op="ping", id="drain")
        frames = []
        while (frame := self.receive())["op"] != "pong":
            frames.append(frame)
        return frames

    def close_code(self) -> int:
        """Return the code with which the server closes."""
        with pytest.raises(WebSocketDisconnect) as caught:
            self.receive()
        return caught.value.code


@contextmanager
def connect(client: TestClient) -> Iterator[Socket]:
    """Give a connected client."""
    with client.websocket_connect("ws://localhost/ws") as session:
        yield Socket(session)


@pytest.fixture
def run() -> Run:
    """Return a run with a little session."""
    run = Run()
    run.log.append(filled_run())
    return run


@pytest.fixture
def client(run: Run) -> Iterator[TestClient]:
    """Give an HTTP client of ``run``."""
    with run.client() as client:
        yield client


def events(count: int, *, start: int = 0) -> list[tuple[str, Header]]:
    """Return order events, each of an order of its own."""
    return [(t.ORDER_EVENTS, submitted(submit(f"n-{i}"))) for i in range(start, start + count)]


def at(topic: str, *next_offsets: int, epoch: str = "run-1") -> dict[str, Any]:
    """Return a cursor: the place in one topic, by partition."""
    return {topic: {"epoch": epoch, "offsets": {str(p): n for p, n in enumerate(next_offsets)}}}


def offsets(frames: list[Any]) -> list[int]:
    """Return the offsets of the data frames."""
    return [frame["offset"] for frame in frames if frame["op"] == "data"]


# ---- subscriptions


def test_hello_tells_run_limits_and_the_class_of_every_topic(client: TestClient) -> None:
    with connect(client) as socket:
        hello = socket.hello

    assert (hello["op"], hello["run_id"], hello["epoch"]) == ("hello", "run-1", "run-1")
    assert hello["heartbeat_ms"] == 5000
    assert hello["topics"] == {topic.name: topic.websocket for topic in CATALOGUE}


def test_updates_follow_a_subscription_with_their_place_in_the_log(
    run: Run, client: TestClient
) -> None:
    with connect(client) as socket:
        answer = socket.subscribe(t.ORDER_EVENTS)
        run.append(client, events(2))
        frames = [socket.receive(), socket.receive()]

    assert answer["op"] == "subscribed"
    assert answer["cursor"] == at(t.ORDER_EVENTS, 5)
    assert set(frames[0]) == {"op", "topic", "partition", "offset", "epoch", "data"}
    assert offsets(frames) == [5, 6]
    assert frames[0]["data"]["type"] == "order_submitted"
    assert frames[0]["data"]["quantity"] == "10"


def test_every_client_gets_the_same_text(run: Run, client: TestClient) -> None:
    with connect(client) as one, connect(client) as two:
        one.subscribe(t.ORDER_EVENTS)
        two.subscribe(t.ORDER_EVENTS, filters={"account_id": ["paper"]})
        run.append(client, events(1))

        assert one.session.receive_text() == two.session.receive_text()


@pytest.mark.parametrize("topic", [topic.name for topic in CATALOGUE])
def test_every_topic_can_be_subscribed_with_a_snapshot(client: TestClient, topic: str) -> None:
    with connect(client) as socket:
        answer = socket.subscribe(topic, snapshot=True)
        snapshot = socket.receive()

    assert answer["op"] == "subscribed"
    assert (snapshot["op"], snapshot["topic"], snapshot["is_last"]) == ("snapshot", topic, True)


def test_snapshot_holds_the_newest_of_each_key_and_updates_go_on_from_it(
    run: Run, client: TestClient
) -> None:
    with connect(client) as socket:
        run.append(
            client, [(t.MARKET_EVENTS, trade(165.2, at=1)), (t.MARKET_EVENTS, trade(165.3, at=2))]
        )
        answer = socket.subscribe(t.MARKET_EVENTS, snapshot=True)
        snapshot = socket.receive()
        run.append(client, [(t.MARKET_EVENTS, trade(165.4, at=3))])
        update = socket.receive()

    assert [item["data"].get("price") for item in snapshot["records"]] == [None, 165.3]
    assert [item["offset"] for item in snapshot["records"]] == [1, 3]
    assert update["offset"] == answer["cursor"][t.MARKET_EVENTS]["offsets"]["0"] == 4


def test_long_snapshot_comes_in_parts(run: Run, client: TestClient) -> None:
    marks = [(t.MARKET_EVENTS, trade(1.0, instrument_id=f"S{i}.X")) for i in range(450)]
    run.append(client, marks)
    with connect(client) as socket:
        socket.subscribe(t.MARKET_EVENTS, snapshot=True)
        parts = [socket.receive() for _ in range(3)]

    assert [part["is_last"] for part in parts] == [False, False, True]
    assert sum(len(part["records"]) for part in parts) == 452


def snapshot_of(run: Run, topic: str) -> tuple[int, set[bool]]:
    """Return how many records a snapshot has, and what its parts say of being complete."""
    with run.client() as client, connect(client) as socket:
        socket.subscribe(topic, snapshot=True)
        parts = [socket.receive()]
        while not parts[-1]["is_last"]:
            parts.append(socket.receive())
    return sum(len(part["records"]) for part in parts), {part["is_complete"] for part in parts}


@pytest.mark.parametrize(
    ("topic", "count", "expected"),
    [
        (t.PORTFOLIO_POSITIONS, 10_000, (10_000, {True})),
        (t.PORTFOLIO_POSITIONS, 10_001, (10_000, {False})),
        (t.MARKET_EVENTS, 2_000, (2_000, {True})),
        (t.MARKET_EVENTS, 2_001, (2_000, {False})),
        (t.ORDER_EVENTS, 200, (200, {True})),
        (t.ORDER_EVENTS, 201, (200, {False})),
    ],
)
def test_snapshot_is_whole_or_says_that_it_is_not(
    topic: str, count: int, expected: tuple[int, set[bool]]
) -> None:
    log = MemoryLog("run-1", lambda: START_NS, history_max=20_000)
    run = Run(has_stage=False, log=log)
    records: dict[str, Callable[[int], Header]] = {
        t.PORTFOLIO_POSITIONS: lambda n: position(strategy_id=f"s-{n}"),
        t.MARKET_EVENTS: lambda n: trade(1.0, instrument_id=f"S{n}.X"),
        t.ORDER_EVENTS: lambda n: submitted(submit(f"o-{n}")),
    }
    run.log.append([(topic, records[topic](n)) for n in range(count)])

    assert snapshot_of(run, topic) == expected


def test_snapshots_fit_into_an_outbox_together() -> None:
    run = Run(fast(outbox_max_bytes=60_000), has_stage=False)
    run.log.append([(t.PORTFOLIO_POSITIONS, position(strategy_id=f"s-{n}")) for n in range(300)])
    topics = (t.PORTFOLIO_POSITIONS, t.ORDER_EVENTS)
    run.log.append([(t.ORDER_EVENTS, submitted(submit("o")))])
    with run.client() as client, connect(client) as socket:
        socket.subscribe(*topics, snapshot=True)
        parts = [socket.receive() for _ in topics]

    positions, orders = parts
    assert 50 < len(positions["records"]) < 200
    assert positions["records"][-1]["offset"] == 299  # the newest are there
    assert (positions["is_complete"], orders["is_complete"]) == (False, False)


def test_filters_leave_out_other_values_and_spare_records_without_the_field(
    run: Run, client: TestClient
) -> None:
    with connect(client) as socket:
        filters = {"instrument_id": ["SPY.ARCX"], "type": ["trade", "equity_mark"]}
        socket.subscribe(t.MARKET_EVENTS, t.PORTFOLIO_EQUITY, filters=filters)
        run.append(
            client,
            [
                (t.MARKET_EVENTS, trade(184.0, instrument_id="IBM.XNYS", at=5)),
                (t.MARKET_EVENTS, trade(165.5, at=6)),
                (t.PORTFOLIO_EQUITY, mark(10001.0, at=70)),
            ],
        )
        frames = socket.drain()

    assert [frame["data"].get("instrument_id") for frame in frames] == ["SPY.ARCX", None]


def test_filters_hold_for_snapshots_and_history_too(client: TestClient) -> None:
    with connect(client) as socket:
        filters = {"strategy_id": ["manual"]}
        socket.subscribe(t.ORDER_EVENTS, filters=filters, snapshot=True, **{"from": "earliest"})
        snapshot = socket.receive()
        history = socket.drain()

    assert [item["data"]["client_order_id"] for item in snapshot["records"]] == ["o-3"]
    assert offsets(history) == [2]


def test_second_subscription_to_a_topic_takes_the_place_of_the_first(
    run: Run, client: TestClient
) -> None:
    with connect(client) as socket:
        socket.subscribe(t.ORDER_EVENTS, filters={"account_id": ["other"]})
        socket.subscribe(t.ORDER_EVENTS)
        run.append(client, events(1))

        assert offsets(socket.drain()) == [5]


def test_nothing_comes_after_unsubscribe(run: Run, client: TestClient) -> None:
    with connect(client) as socket:
        socket.subscribe(t.ORDER_EVENTS, t.ORDER_FILLS)
        answer = socket.ask(op="unsubscribe", id=7, topics=[t.ORDER_EVENTS, t.MARKET_BARS])
        run.append(client, events(3))

        assert answer == {"op": "unsubscribed", "id": 7, "topics": [t.ORDER_EVENTS]}
        assert socket.drain() == []


def test_batched_client_gets_arrays(run: Run, client: TestClient) -> None:
    with connect(client) as socket:
        socket.subscribe(t.ORDER_EVENTS, batch=True)
        run.append(client, events(5))
        frames: list[Any] = []
        while len(frames) < 5:
            content = socket.receive()
            assert isinstance(content, list)
            frames += content

    assert offsets(frames) == [5, 6, 7, 8, 9]


# ---- resume


def test_cursor_resumes_exactly_behind_the_last_frame(run: Run, client: TestClient) -> None:
    with connect(client) as socket:
        socket.subscribe(t.ORDER_EVENTS)
        run.append(client, events(3))
        seen = [socket.receive()["offset"] for _ in range(2)]
    run.append(client, events(1500, start=3))

    with connect(client) as socket:
        cursor = at(t.ORDER_EVENTS, seen[-1] + 1)
        socket.subscribe(t.ORDER_EVENTS, **{"from": cursor})
        seen += [socket.receive()["offset"] for _ in range(1501)]
        run.append(client, events(2))
        seen += [socket.receive()["offset"] for _ in range(2)]

    assert seen == list(range(5, 5 + 3 + 1500 + 2))


def test_records_that_are_published_while_history_is_read_come_once_and_in_order(
    run: Run, client: TestClient
) -> None:
    run.append(client, events(2000))
    with connect(client) as socket:
        socket.subscribe(t.ORDER_EVENTS, **{"from": "earliest"})
        for start in range(0, 500, 50):
            run.append(client, events(50, start=start))
        seen = [socket.receive()["offset"] for _ in range(2505)]

    assert seen == list(range(2505))


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"from": at(t.ORDER_EVENTS, 0, epoch="run-0")}, "epoch_changed"),
        ({"from": at(t.ORDER_EVENTS, 0, 0)}, "bad_cursor"),
        ({"from": at(t.ORDER_EVENTS)}, "bad_cursor"),
        ({"from": at(t.ORDER_FILLS, 0)}, "bad_cursor"),
        ({"from": at(t.ORDER_EVENTS, -1)}, "invalid_request"),
        ({"from": {t.ORDER_EVENTS: {"0": 0}}}, "invalid_request"),
        ({"mode": "conflated"}, "bad_mode"),
        ({"mode": "fast"}, "invalid_request"),
        ({"from": "yesterday"}, "invalid_request"),
    ],
)
def test_cursor_that_cannot_be_resumed_is_an_error(
    client: TestClient, fields: dict[str, Any], code: str
) -> None:
    with connect(client) as socket:
        answer = socket.subscribe(t.ORDER_EVENTS, **fields)

        assert (answer["op"], answer["id"], answer["code"]) == ("error", "s", code)
        assert socket.drain() == []


@pytest.mark.parametrize(
    ("request_", "detail"),
    [
        ({"op": "subscrib"}, "/op is no request; give one of auth, subscribe, unsubscribe, ping"),
        ({"topics": []}, "/op is missing; give one of auth, subscribe, unsubscribe, ping"),
        ({"op": "subscribe"}, "/topics is missing; give topics in the frame"),
        (
            {"op": "subscribe", "topics": ["x"], "from": "yesterday"},
            "/from invalid enum value 'yesterday'; give latest, earliest, or a cursor",
        ),
        (
            {"op": "subscribe", "topics": ["x"], "mode": "fast"},
            "/mode invalid enum value 'fast'; give one of all, conflated",
        ),
        (
            {"op": "subscribe", "topics": ["x"], "filters": {"colour": ["red"]}},
            (
                "/filters/colour is not known here; leave it out, or use one of type,"
                " instrument_id, account_id, strategy_id, client_order_id, task_id"
            ),
        ),
    ],
)
def test_wrong_request_is_told_with_what_may_stand_there(
    client: TestClient, request_: dict[str, Any], detail: str
) -> None:
    with connect(client) as socket:
        answer = socket.ask(**request_)

    assert (answer["code"], answer["detail"]) == ("invalid_request", detail)


def test_cursor_behind_what_is_kept_is_an_error_on_complete_topics_and_a_gap_on_others() -> None:
    run = Run(log=MemoryLog("run-1", lambda: START_NS, history_max=10))
    with run.client() as client:
        trades = [(t.MARKET_EVENTS, trade(1.0, at=i)) for i in range(30)]
        run.append(client, [*events(30), *trades])
        with connect(client) as socket:
            refused = socket.subscribe(t.ORDER_EVENTS, **{"from": at(t.ORDER_EVENTS, 3)})
            socket.subscribe(t.MARKET_EVENTS, **{"from": at(t.MARKET_EVENTS, 3)})
            frames = socket.drain()

    assert refused["code"] == "cursor_expired"
    assert "from offset 20" in refused["detail"]
    assert (frames[0]["op"], frames[0]["from"], frames[0]["to"]) == ("gap", 3, 19)
    assert offsets(frames) == list(range(20, 30))


def test_cursor_of_a_process_that_is_ahead_is_waited_for(run: Run, client: TestClient) -> None:
    with connect(client) as socket:
        socket.send(op="subscribe", topics=[t.ORDER_EVENTS], **{"from": at(t.ORDER_EVENTS, 7)})
        run.append(client, events(4))

        assert socket.receive()["op"] == "subscribed"
        assert offsets(socket.drain()) == [7, 8]


def test_cursor_far_ahead_is_an_error(client: TestClient) -> None:
    with connect(client) as socket:
        answer = socket.subscribe(t.ORDER_EVENTS, **{"from": at(t.ORDER_EVENTS, 999)})

        assert answer["code"] == "bad_cursor"


def test_partitions_are_resumed_each_from_its_own_offset() -> None:
    log = MemoryLog("run-1", lambda: START_NS, counts={t.ORDER_EVENTS: 3})
    run = Run(log=log)
    orders = [submit(f"n-{i}", account_id=f"a-{i % 11}") for i in range(600)]
    records: list[tuple[str, Header]] = [(t.ORDER_EVENTS, submitted(order)) for order in orders]
    with run.client() as client:
        run.append(client, records[:500])
        ends = [log.end_offset(t.ORDER_EVENTS, partition) for partition in range(3)]
        begins = [ends[0] - 1, 0, ends[2] - 3]
        with connect(client) as socket:
            socket.subscribe(t.ORDER_EVENTS, **{"from": at(t.ORDER_EVENTS, *begins)})
            run.append(client, records[500:])
            frames = socket.drain()

    for partition in range(3):
        seen = [frame["offset"] for frame in frames if frame["partition"] == partition]
        assert seen == list(range(begins[partition], log.end_offset(t.ORDER_EVENTS, partition)))


def test_several_topics_keep_the_order_in_which_they_were_published(
    run: Run, client: TestClient
) -> None:
    with connect(client) as socket:
        socket.subscribe(t.ORDER_EVENTS, t.MARKET_EVENTS, t.PORTFOLIO_EQUITY)
        mixed = [
            record
            for i in range(20)
            for record in (
                (t.MARKET_EVENTS, trade(1.0, at=i)),
                *events(1, start=i),
                (t.PORTFOLIO_EQUITY, mark(1.0, at=i)),
            )
        ]
        run.append(client, mixed)

        assert [frame["topic"] for frame in socket.drain()] == [topic for topic, _ in mixed]


# ---- who may read what


class Keys:
    """Knows two keys: one that may read, one that may do nothing."""

    async def by_headers(self, headers: Mapping[str, str], address: str) -> Client | None:
        """Return the client of a key in the header."""
        return await self.by_secret(
            headers.get("authorization", "").removeprefix("Bearer "), address
        )

    async def by_secret(self, secret: str, address: str) -> Client | None:
        """Return the client of a key."""
        known = {"reader": Client("ada", frozenset({READ})), "nothing": Client("bob", frozenset())}
        return known.get(secret)

    async def is_good(self, client: Client) -> bool:
        """Return that no key was revoked."""
        return True


@pytest.fixture
def guarded() -> Iterator[TestClient]:
    """Give a client of an app that asks for keys, and waits only a moment for them."""
    run = Run(fast(auth_timeout_s=0.3))
    run.context.hub.access = Keys()
    with run.client() as client:
        yield client


def test_client_without_a_key_is_told_and_closed_in_time(guarded: TestClient) -> None:
    with connect(guarded) as socket:
        assert socket.hello["is_authenticated"] is False
        assert socket.subscribe(t.ORDER_EVENTS)["code"] == "not_authenticated"
        assert socket.receive()["code"] == "auth_timeout"
        assert socket.close_code() == 4401


def test_unknown_key_is_closed(guarded: TestClient) -> None:
    with connect(guarded) as socket:
        assert socket.ask(op="auth", secret="stolen")["code"] == "unknown_secret"
        assert socket.close_code() == 4401


def test_known_key_may_read_what_its_scopes_say(guarded: TestClient) -> None:
    with connect(guarded) as socket:
        answer = socket.ask(op="auth", id=1, secret="reader")
        refused = socket.subscribe(t.SYSTEM_SNAPSHOTS, t.ORDER_EVENTS)
        given = socket.subscribe(t.ORDER_EVENTS)

    assert answer == {"op": "authenticated", "id": 1, "name": "ada", "scopes": ["read"]}
    assert (refused["op"], refused["code"]) == ("error", "forbidden")
    assert given["op"] == "subscribed"


def test_key_without_scopes_reads_no_topic(guarded: TestClient) -> None:
    with connect(guarded) as socket:
        socket.ask(op="auth", secret="nothing")
        for topic in CATALOGUE:
            assert socket.subscribe(topic.name)["code"] == "forbidden"


def test_address_without_a_key_does_not_take_the_places_of_all() -> None:
    run = Run(fast(strangers_max=2))
    run.context.hub.access = Keys()

    def refused(client: TestClient) -> int:
        with (
            client.websocket_connect("ws://localhost/ws") as session,
            pytest.raises(WebSocketDisconnect) as caught,
        ):
            session.receive_text()
        return caught.value.code

    with run.client() as client, connect(client) as first, connect(client):
        assert refused(client) == 1013
        # Neither others nor those who show a key at once are kept out.
        elsewhere = TestClient(run.app, "http://localhost", client=("elsewhere", 1))
        elsewhere.portal = client.portal
        with connect(elsewhere):
            pass
        headers = {"authorization": "Bearer reader"}
        with client.websocket_connect("ws://localhost/ws", headers=headers) as session:
            assert Socket(session).hello["is_authenticated"] is True
        first.ask(op="auth", secret="reader")
        with connect(client):
            assert refused(client) == 1013


def test_key_in_the_header_needs_no_auth_frame(guarded: TestClient) -> None:
    headers = {"authorization": "Bearer reader"}
    with guarded.websocket_connect("ws://localhost/ws", headers=headers) as session:
        socket = Socket(session)

        assert socket.hello["is_authenticated"] is True
        assert socket.subscribe(t.ORDER_EVENTS)["op"] == "subscribed"


@pytest.mark.parametrize("is_in_header", [True, False], ids=["header", "frame"])
def test_connection_stays_with_its_first_key_and_ends_with_it(
    is_in_header: bool, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    first, second = gate.key(READ, name="ada"), gate.key(READ, name="bob")
    run = Run(fast(heartbeat_s=0.1), gate=gate.keeper)
    headers = bearer(first) if is_in_header else {}
    with (
        run.client() as client,
        client.websocket_connect("ws://localhost/ws", headers=headers) as session,
    ):
        socket = Socket(session)
        if not is_in_header:
            assert socket.ask(op="auth", secret=first)["name"] == "ada"
        refused = socket.ask(op="auth", id=2, secret=second)
        again = socket.ask(op="auth", id=3, secret=first)
        given = socket.subscribe(t.ORDER_EVENTS)
        gate.keys.revoke("ada")
        gate.clock.now_s += 10
        while (last := socket.receive())["op"] == "heartbeat":
            pass

        assert (refused["op"], refused["code"]) == ("error", "already_authenticated")
        assert (again["op"], again["name"]) == ("authenticated", "ada")
        assert given["op"] == "subscribed"
        assert last["code"] == "key_refused"
        assert socket.close_code() == 4401


def test_whoever_shows_a_key_where_none_is_asked_for_is_known_by_it(tmp_path: Path) -> None:
    """Until something is subscribed, which the key may not allow."""
    gate = Gate(tmp_path, is_open=True)
    key = gate.key(READ, name="ada")
    run = Run(fast(), gate=gate.keeper)
    with run.client() as client:
        with connect(client) as socket:
            assert socket.ask(op="auth", secret=key)["name"] == "ada"
        with connect(client) as socket:
            socket.subscribe(t.ORDER_EVENTS)
            assert socket.ask(op="auth", secret=key)["code"] == "already_authenticated"


# ---- requests that are wrong


@pytest.mark.parametrize(
    "request_",
    [
        {"op": "shout", "id": "s"},
        {"op": "subscribe", "id": "s"},
        {"op": "subscribe", "id": "s", "topics": []},
        {"op": "subscribe", "id": "s", "topics": "orders.events.v1"},
        {"op": "subscribe", "id": "s", "topics": ["nope.v1"]},
        {"op": "subscribe", "id": "s", "topics": [t.ORDER_EVENTS], "filters": {"color": ["red"]}},
        {"op": "subscribe", "id": "s", "topics": [t.ORDER_EVENTS], "max_hz": 5},
        {"op": "ping", "id": "s", "extra": 1},
        {"id": "s"},
    ],
)
def test_wrong_request_is_answered_and_the_connection_stays(
    client: TestClient, request_: dict[str, Any]
) -> None:
    with connect(client) as socket:
        answer = socket.ask(**request_)

        assert (answer["op"], answer["id"]) == ("error", "s")
        assert answer["detail"]
        assert socket.ask(op="ping", id=1)["op"] == "pong"


@pytest.mark.parametrize("text", ["", "{", "hello", "[" * 5000, '{"op":"ping","id":"' + "\\ud800"])
def test_malformed_frame_is_answered_and_closes(client: TestClient, text: str) -> None:
    with connect(client) as socket:
        socket.session.send_text(text)
        frame = socket.receive()

        assert frame["op"] == "error"
        if frame["code"] == "malformed_frame":
            assert socket.close_code() == 1008


def test_deeply_nested_request_is_an_error(client: TestClient) -> None:
    with connect(client) as socket:
        socket.session.send_text('{"op":"ping","zzz":1,"deep":' + "[" * 20_000)

        assert socket.receive()["op"] == "error"


def test_binary_frame_is_answered_and_closes(client: TestClient) -> None:
    with connect(client) as socket:
        socket.session.send_bytes(b"\x00")

        assert socket.receive()["code"] == "binary_frame"
        assert socket.close_code() == 1003


def test_frame_that_is_too_large_is_answered_and_closes(client: TestClient) -> None:
    with connect(client) as socket:
        socket.session.send_text('"' + "x" * 65_536 + '"')

        assert socket.receive()["code"] == "frame_too_large"
        assert socket.close_code() == 1009


def test_client_that_asks_too_often_is_closed() -> None:
    with (
        Run(fast(inbound_ops_burst=3, inbound_ops_per_s=0.001)).client() as client,
        connect(client) as socket,
    ):
        answers = [socket.ask(op="ping") for _ in range(4)]

        assert [answer["op"] for answer in answers] == ["pong", "pong", "pong", "error"]
        assert answers[-1]["code"] == "rate_limited"
        assert socket.close_code() == 1008


@pytest.mark.parametrize(
    ("path", "origin", "status", "code"),
    [
        ("/ws", "http://evil.example", 403, "origin_not_allowed"),
        ("/ws/more", "http://localhost", 404, "not_found"),
    ],
)
def test_whoever_cannot_connect_is_told_why(
    client: TestClient, path: str, origin: str, status: int, code: str
) -> None:
    with (
        pytest.raises(WebSocketDenialResponse) as caught,
        client.websocket_connect(f"ws://localhost{path}", headers={"origin": origin}),
    ):
        pass

    assert caught.value.status_code == status
    assert caught.value.json()["code"] == code


def test_one_client_too_many_is_closed() -> None:
    with Run(fast(clients_max=1)).client() as client, connect(client):
        with (
            client.websocket_connect("ws://localhost/ws") as second,
            pytest.raises(WebSocketDisconnect) as caught,
        ):
            second.receive_text()

        assert caught.value.code == 1013


def test_idle_client_gets_heartbeats() -> None:
    with Run(fast(heartbeat_s=0.01)).client() as client, connect(client) as socket:
        assert socket.receive()["op"] == "heartbeat"
        assert socket.receive()["op"] == "heartbeat"


# ---- clients that fall behind


def test_slow_client_of_a_complete_topic_is_cut_off_and_delays_nobody() -> None:
    run = Run(fast(outbox_max_frames=50))
    with run.client() as client, connect(client) as slow, connect(client) as quick:
        slow.subscribe(t.ORDER_EVENTS)
        quick.subscribe(t.ORDER_FILLS)
        run.append(client, events(2))
        first = [slow.receive()["offset"] for _ in range(2)]
        run.in_one_turn(client, events(1, start=2), events(60, start=3))
        frames = []
        while (frame := slow.receive())["op"] == "data":
            frames.append(frame)

        assert (frame["op"], frame["code"]) == ("disconnect", "slow_consumer")
        assert frame["cursor"] == at(t.ORDER_EVENTS, len(first) + len(frames))
        assert slow.close_code() == 4408
        assert quick.ask(op="ping")["op"] == "pong"


def test_slow_client_of_a_conflated_topic_gets_the_newest_and_an_announced_gap() -> None:
    run = Run(fast(conflate_after_frames=10))
    with run.client() as client, connect(client) as socket:
        socket.subscribe(t.MARKET_EVENTS)
        trades = [(t.MARKET_EVENTS, trade(100.0 + i, at=i)) for i in range(40)]
        run.in_one_turn(client, trades[:1], trades[1:])
        frames = socket.drain()

    gaps = [frame for frame in frames if frame["op"] == "gap"]
    left = offsets(frames)
    assert left == sorted(left)
    assert left[-1] == 39
    assert len(left) < 40
    missing = set(range(40)) - set(left)
    assert missing <= {n for gap in gaps for n in range(gap["from"], gap["to"] + 1)}
    assert all(gap["reason"] == "slow_client" for gap in gaps)


def test_mode_all_leaves_nothing_out_of_a_conflated_topic() -> None:
    run = Run(fast(conflate_after_frames=10))
    with run.client() as client, connect(client) as socket:
        socket.subscribe(t.MARKET_EVENTS, mode="all")
        trades = [(t.MARKET_EVENTS, trade(100.0 + i, at=i)) for i in range(40)]
        run.in_one_turn(client, trades[:1], trades[1:])

        assert offsets(socket.drain()) == list(range(40))


def test_mode_all_is_cut_off_as_a_complete_topic_is() -> None:
    run = Run(fast(outbox_max_frames=20))
    with run.client() as client, connect(client) as socket:
        socket.subscribe(t.MARKET_EVENTS, mode="all")
        trades = [(t.MARKET_EVENTS, trade(100.0 + i, at=i)) for i in range(40)]
        run.in_one_turn(client, trades[:1], trades[1:])
        while (frame := socket.receive())["op"] == "data":
            continue

    assert frame["code"] == "slow_consumer"


def test_slow_client_of_a_state_topic_gets_the_last_state_without_gaps() -> None:
    run = Run()
    with run.client() as client, connect(client) as socket:
        socket.subscribe(t.PORTFOLIO_POSITIONS)
        changes = [(t.PORTFOLIO_POSITIONS, position(str(i))) for i in range(40)]
        run.in_one_turn(client, changes[:1], changes[1:])
        frames = socket.drain()

    assert [frame["data"]["quantity"] for frame in frames] == ["0", "39"]


def test_frames_are_as_their_structs_say(run: Run, client: TestClient) -> None:
    frames: list[str] = []
    with client.websocket_connect("ws://localhost/ws") as session:
        frames.append(session.receive_text())
        for request in (
            {"op": "auth", "secret": "any"},
            {"op": "subscribe", "topics": [t.ORDER_EVENTS], "snapshot": True},
            {"op": "ping"},
            {"op": "unsubscribe", "topics": [t.ORDER_EVENTS]},
            {"op": "nonsense"},
        ):
            session.send_text(json.dumps(request))
            frames.append(session.receive_text())
            if request["op"] == "subscribe":
                frames.append(session.receive_text())
                run.append(client, events(1))
                frames.append(session.receive_text())
        run.on_loop(client, run.context.hub.close)
        frames.append(session.receive_text())

    seen = {type(msgspec.json.decode(text, type=AnyServerFrame, strict=True)) for text in frames}
    assert seen == set(get_args(AnyServerFrame)) - {Gap, Heartbeat}
    for text in frames:
        # Nothing is sent that the struct does not name.
        decoded = msgspec.json.decode(text, type=AnyServerFrame)
        assert {*decoded.__struct_encode_fields__, "op"} >= json.loads(text).keys()


def test_clients_are_told_when_the_server_stops() -> None:
    run = Run()
    with run.client() as client, connect(client) as socket:
        socket.subscribe(t.ORDER_EVENTS)
        run.append(
            client, [(t.ORDER_EVENTS, accepted(submit("o"))), (t.ORDER_EVENTS, filled(submit("o")))]
        )
        seen = offsets([socket.receive(), socket.receive()])
        run.on_loop(client, run.context.hub.close)

        frame = socket.receive()
        assert (frame["op"], frame["code"]) == ("disconnect", "server_stops")
        assert frame["cursor"] == at(t.ORDER_EVENTS, seen[-1] + 1)
        assert socket.close_code() == 1001


def test_clients_are_forgotten_when_they_leave(run: Run, client: TestClient) -> None:
    with connect(client) as socket:
        socket.subscribe(t.ORDER_EVENTS)
        assert client.get("/api/system").json()["websocket_clients"] == 1

    run.append(client, events(1))
    assert client.get("/api/system").json()["websocket_clients"] == 0
