"""Gates in the relay: first in, first out, never more on their way than may be, and no look at what cannot go (R15)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine, event, insert, select, text, update

from projections.migrate import upgrade
from projections.tables import WEBHOOK_SCHEDULE
from schemas.events import now_micros, to_datetime
from streams.capture.gates import GateLimit
from streams.capture.relay import Relay, RelayOptions
from streams.capture.schedule_feed import ScheduleFeed
from streams.database import create_database_engine
from streams.settings import Settings
from tests.integration.scheduled import task_of, wait_of
from tests.streams.capture.relay_support import published, running
from tests.support.waiting import eventually
from topics.catalogue import Catalogue
from topics.gates import rate_gate, tenant_gate

BUSY, QUIET = tenant_gate("busy"), tenant_gate("quiet")
RATED = rate_gate("1", "api.example.com")
WAITS = WEBHOOK_SCHEDULE.c


class Limits:
    """Limits that a test sets."""

    def __init__(self, **limits: GateLimit) -> None:
        self.of: dict[str, GateLimit] = dict(limits)

    def limit(self, gate: str, now: int) -> GateLimit:
        return self.of[gate]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_database_engine(f"sqlite:///{tmp_path}/webhook.db")
    upgrade(engine, ("projections", "outbox"))
    yield engine
    engine.dispose()


def rows_behind(catalogue: Catalogue, gate: str, names: list[str]) -> list[dict[str, Any]]:
    """Rows as the projector makes them, in the order of their deferral."""
    now = now_micros()
    rows = []
    for number, name in enumerate(names):
        wait = wait_of(task_of(name, now), catalogue, now - 1_000_000, kind="deferral", gate=gate)
        fields = ("schedule_id", "version", "event_id", "run", "step", "attempt", "dispatch_seq", "tenant_id")
        row = {each: getattr(wait, each) for each in (*fields, "endpoint", "tier", "target_topic", "kind", "gate")}
        rows.append(
            row
            | {
                "task": wait.task,
                "record_key": name.encode(),
                "held_by": gate,
                "log_offset": number,
                "due_at": to_datetime(wait.due_at),
                "accepted_at": to_datetime(now),
                "created_at": to_datetime(now + number // 3),
            }
        )
    return rows


def defer(engine: Engine, catalogue: Catalogue, gate: str, names: list[str]) -> None:
    with engine.begin() as connection:
        connection.execute(insert(WEBHOOK_SCHEDULE), rows_behind(catalogue, gate, names))


def on_their_way(engine: Engine, gate: str) -> list[str]:
    """Events released and without an outcome."""
    query = select(WAITS.event_id).where(
        WAITS.gate == gate, WAITS.dispatched_at.is_not(None), WAITS.closed_at.is_(None)
    )
    with engine.connect() as connection:
        return sorted(connection.execute(query).scalars())


def close(engine: Engine, *names: str) -> None:
    """What the projector does when outcomes are in the log."""
    with engine.begin() as connection:
        connection.execute(
            update(WEBHOOK_SCHEDULE).where(WAITS.event_id.in_(names)).values(closed_at=to_datetime(now_micros()))
        )


@pytest.mark.embedded
def test_each_gate_lets_go_first_in_first_out_as_many_as_may_be_on_their_way(
    embedded_settings: Settings, catalogue: Catalogue, engine: Engine
) -> None:
    limits = Limits(**{BUSY: GateLimit(2), QUIET: GateLimit(0)})
    defer(engine, catalogue, BUSY, [f"b{number}" for number in range(7)])
    defer(engine, catalogue, QUIET, ["q0", "q1"])
    with running(Relay(embedded_settings, catalogue, [engine], engine, RelayOptions(limits=limits))):
        eventually(lambda: on_their_way(engine, BUSY) == ["b0", "b1"])
        close(engine, "b0")
        eventually(lambda: on_their_way(engine, BUSY) == ["b1", "b2"])
        limits.of[QUIET] = GateLimit(1)
        eventually(lambda: on_their_way(engine, QUIET) == ["q0"])
        limits.of[BUSY] = GateLimit(5)
        eventually(lambda: on_their_way(engine, BUSY) == ["b1", "b2", "b3", "b4", "b5"])
    sent = [headers["schedule_id"].split("|")[0] for _, headers, _ in published(*_tier(embedded_settings, catalogue))]
    assert sorted(sent) == ["b0", "b1", "b2", "b3", "b4", "b5", "q0"]


def _tier(settings: Settings, catalogue: Catalogue) -> tuple[Settings, Catalogue, str]:
    return settings, catalogue, catalogue.topic("webhook-db")


@pytest.mark.embedded
def test_a_rate_holds_over_a_takeover(embedded_settings: Settings, catalogue: Catalogue, engine: Engine) -> None:
    """Outcomes come at once, so only the rate holds back; the relay is replaced twice meanwhile."""
    rate, burst, count = 20, 3, 60
    limits = Limits(**{RATED: GateLimit(burst, float(rate), burst)})
    names = [f"r{number:02}" for number in range(count)]
    defer(engine, catalogue, RATED, names)

    def closed() -> int:
        close(engine, *on_their_way(engine, RATED))
        with engine.connect() as connection:
            return len(connection.execute(select(WAITS.event_id).where(WAITS.closed_at.is_not(None))).all())

    options = RelayOptions(limits=limits, proof_timeout_s=0.1)
    for share in (15, 30, count):
        with running(Relay(embedded_settings, catalogue, [engine], engine, options)):
            eventually(lambda share=share: closed() >= share, 60)  # type: ignore[misc]
    with engine.connect() as connection:
        moments = connection.execute(select(WAITS.event_id, WAITS.dispatched_at).order_by(WAITS.dispatched_at)).all()
    assert [each.event_id for each in moments] == names
    for begin in moments:
        within = [each for each in moments if 0 <= (each.dispatched_at - begin.dispatched_at).total_seconds() < 1]
        assert len(within) <= rate + burst


@pytest.mark.postgres
def test_what_cannot_go_is_not_looked_at(postgres_database: str, catalogue: Catalogue) -> None:
    """100,000 rows behind closed gates and in lanes: a look touches a few of them, as PostgreSQL itself counts."""
    engine = create_database_engine(postgres_database)
    upgrade(engine, ("projections",))
    limits = Limits(**{BUSY: GateLimit(0), QUIET: GateLimit(0), RATED: GateLimit(1, 0.0, 1)})
    feed = ScheduleFeed(catalogue, limits)
    with engine.begin() as connection:
        for gate, kind in ((BUSY, "deferral"), (QUIET, "deferral"), (RATED, "deferral"), ("1|Order|7", "strict")):
            connection.execute(
                text(
                    "INSERT INTO webhook_schedule (schedule_id, version, gate, lane, held_by, kind, run, log_offset,"
                    " event_id, target_topic, due_at, created_at, record_key, task)"
                    " SELECT :gate || n, 1, CASE WHEN :kind = 'strict' THEN NULL ELSE :gate END,"
                    " CASE WHEN :kind = 'strict' THEN :gate END, :gate, :kind, 1, n, n, :topic, now(), now(), '', ''"
                    " FROM generate_series(1, 25000) AS n"
                ),
                {"gate": gate, "kind": kind, "topic": catalogue.topic("webhook-db")},
            )
        # Waits for call-backs that have not come.
        connection.execute(
            text(
                "INSERT INTO webhook_schedule (schedule_id, version, gate, kind, run, event_id, target_topic, due_at,"
                " created_at, record_key, task) SELECT 'w' || n, 1, 'call_back|1|' || n, 'wait', 1, n, :topic,"
                " now() + interval '1 hour', now(), '', '' FROM generate_series(1, 25000) AS n"
            ),
            {"topic": catalogue.topic("webhook-db")},
        )
    statements: list[tuple[str, Any]] = []
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE webhook_schedule"))
        event.listen(engine, "before_cursor_execute", lambda *args: statements.append((args[2], args[3])))
        assert feed.read(connection, 500, set()) == []
        asked = list(statements)
        looked = sum(_rows(connection, statement, parameters) for statement, parameters in asked)
    engine.dispose()
    assert len(asked) >= 2
    assert looked < 50


def _rows(connection: Any, statement: str, parameters: Any) -> float:
    """Rows that the nodes of a plan took up, those thrown away included."""
    cursor = connection.connection.cursor()
    cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters)
    found = cursor.fetchone()[0]
    cursor.close()
    plan = (found if isinstance(found, list) else orjson.loads(found))[0]["Plan"]

    def rows(node: dict[str, Any]) -> float:
        own = (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        return float(own) + sum(rows(each) for each in node.get("Plans", ()))

    return rows(plan)
