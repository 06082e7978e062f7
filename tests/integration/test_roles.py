"""Every role its own process on real Kafka and PostgreSQL, two workers of one tier: kill -9 and SIGTERM under load.

``WEBHOOK_TEST_EVENTS`` sets the number of events, 6,000 by default; there are 20 of each key.
"""

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import orjson
import pytest
from sqlalchemy import Engine, func, select

from projections.fold import fold
from projections.tables import WEBHOOK_EVENTS
from streams.broker.connection import admin_client
from streams.database import create_database_engine
from streams.settings import Settings
from tests.projections.stored import stored_rows
from tests.support.load import (
    CONFIGURATION,
    Figures,
    Journal,
    Log,
    append_load,
    differences,
    outcomes_by_event,
    projected_positions,
    run_again_after_outcome,
)
from tests.support.roles import Installation, Role, has_members, installation
from tests.support.waiting import eventually
from topics.catalogue import Catalogue

EVENTS = int(os.environ.get("WEBHOOK_TEST_EVENTS", "6000"))
KEYS = EVENTS // 20
TIER = "webhook-high"
PROJECTOR_KILLS = 5
LOG_RECORDS = 3 * EVENTS
"""What the projector reads at least: of each event that it was accepted, was sent to its tier, and is completed."""
NOTHING_WRONG = Figures(EVENTS, 0, 0, 0, 0, 0, 0.0)
LONG_S = 90.0 + EVENTS / 100

pytestmark = [pytest.mark.kafka, pytest.mark.postgres, pytest.mark.timeout(2 * LONG_S)]

_log = logging.getLogger(__name__)


class Load:
    """All roles at work on a load."""

    def __init__(self, roles: Installation, engine: Engine) -> None:
        self.roles = roles
        self.engine = engine
        self.journal = Journal(roles.journal)
        self.log = Log(roles.settings)
        self._admin = admin_client(roles.settings)
        roles.run("migrate")
        self.tenant_id = self._create_tenant()
        self.projector = self._start_projector()
        self.others = [roles.start("relay"), roles.start("intake")]
        self.workers = [roles.start("work", TIER) for _ in range(2)]
        self.wait(self._both_work, "both workers have partitions")

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a condition, and fail at once where a role has ended by itself."""

        def checked() -> bool:
            self.roles.check()
            return condition()

        eventually(checked, LONG_S, what)

    def append(self) -> list[str]:
        """Put the load into the outbox; the ids of its events."""
        return append_load(self.engine, self.roles.settings.catalogue(), self.tenant_id, EVENTS, KEYS)

    def wait_for_the_middle(self) -> None:
        """Until about half of the events were started, many in each worker."""

        def in_the_middle() -> bool:
            self.journal.read()
            share = min(self.journal.started_by(worker.pid) for worker in self.workers)
            return len(self.journal.starts) >= EVENTS // 2 and share >= EVENTS // 10

        self.wait(in_the_middle, "half of the events were started")

    def kill_projector(self) -> None:
        """Kill it several times while it still has records to project, and start it again each time."""
        for kill in range(1, PROJECTOR_KILLS + 1):
            goal = kill * LOG_RECORDS // (PROJECTOR_KILLS + 2)
            self.wait(lambda goal=goal: self._projected() >= goal, f"{goal} records are projected")  # type: ignore[misc]
            self.projector.kill()
            assert self._projected() < LOG_RECORDS, "each kill must come in the middle of the work"
            self.projector = self._start_projector()

    def wait_for_the_end(self) -> None:
        """Until every event was run to its end and the history says so."""
        self.wait(lambda: len(self.journal.read().ended) >= EVENTS, "every event was run to its end")
        self.wait(lambda: self._completed() >= EVENTS, "every event is completed in the history")

    def stop(self) -> None:
        """Stop every role that runs, the projector last and only at the end of the log."""
        running = [role for role in (*self.others, *self.workers) if role.process.poll() is None]
        for role in running:
            role.ask_to_stop()
        for role in running:
            role.wait_stopped()
        self.wait(self._projected_all, "the whole log is projected")
        self.projector.stop()

    def _create_tenant(self) -> str:
        file = self.roles.journal.with_name("tenant.json")
        file.write_bytes(orjson.dumps(CONFIGURATION))
        created = orjson.loads(self.roles.run("tenants", "create", "Load", "--config", str(file), "--json"))
        return str(created["id"])

    def _start_projector(self) -> Role:
        return self.roles.start("project", extra={"WEBHOOK_PROJECTOR_BATCH": "500"})

    def _both_work(self) -> bool:
        settings = self.roles.settings
        return has_members(self._admin, TIER, settings.catalogue().topic(TIER), members=2)

    def _projected(self) -> int:
        return sum(projected_positions(self.engine).values())

    def _projected_all(self) -> bool:
        positions = projected_positions(self.engine)
        return all(positions.get(place, 0) == end for place, end in self.log.ends().items())

    def _completed(self) -> int:
        chosen = select(func.count()).where(WEBHOOK_EVENTS.c.status == "completed")
        with self.engine.connect() as connection:
            return connection.execute(chosen).scalar_one()


@pytest.fixture
def load(kafka_settings: Settings, catalogue: Catalogue, postgres_database: str, tmp_path: Path) -> Iterator[Load]:
    """The roles, ready for work."""
    engine = create_database_engine(postgres_database)
    with installation(kafka_settings, postgres_database, tmp_path) as roles:
        yield Load(roles, engine)
    engine.dispose()


def judge(load: Load, event_ids: list[str], seconds: float) -> Figures:
    """Compare journal, log and tables, once everything has stopped; history must be the plain fold of the log."""
    journal, facts = load.journal.read(), load.log.facts()
    with load.engine.connect() as connection:
        stored = stored_rows(connection)
    outcomes = outcomes_by_event(facts)
    completed = Counter(row.event_id for row in stored.events.values() if row.status == "completed")
    figures = Figures(
        events=len(event_ids),
        lost=sum(completed[event_id] != 1 for event_id in event_ids),
        repeated=len(journal.repeated()),
        run_again_after_outcome=len(run_again_after_outcome(journal, facts)),
        more_than_one_outcome=sum(len(found) != 1 for found in outcomes.values()),
        inversions=len(journal.inversions()),
        seconds=round(seconds, 1),
    )
    _log.info("%s", asdict(figures))
    assert sorted(outcomes) == sorted(event_ids), "the log holds an outcome of every event and of no other"
    assert differences(stored, fold(facts)) == []
    return figures


def test_kills_of_a_worker_and_the_projector_lose_and_repeat_nothing_recorded(load: Load) -> None:
    began = time.monotonic()
    with ThreadPoolExecutor(2) as threads:
        appended = threads.submit(load.append)
        killed = threads.submit(load.kill_projector)
        load.wait_for_the_middle()
        load.workers[0].kill()
        killed.result()
        load.wait_for_the_end()
    seconds = time.monotonic() - began
    load.stop()
    figures = judge(load, appended.result(), seconds)
    assert figures == replace(NOTHING_WRONG, repeated=figures.repeated, seconds=figures.seconds)
    assert len([role for role in load.roles.roles if role.process.returncode == -9]) == 1 + PROJECTOR_KILLS


def test_a_worker_that_is_asked_to_stop_leads_to_no_repeat(load: Load) -> None:
    began = time.monotonic()
    with ThreadPoolExecutor(1) as threads:
        appended = threads.submit(load.append)
        load.wait_for_the_middle()
        load.workers[0].stop()
        load.wait_for_the_end()
    seconds = time.monotonic() - began
    load.stop()
    figures = judge(load, appended.result(), seconds)
    assert figures == replace(NOTHING_WRONG, seconds=figures.seconds)
