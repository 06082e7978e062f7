"""``webhook work`` with the options of ``queue:work``: how many tasks it carries out, and with which code it leaves."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.broker.connection import admin_client
from streams.settings import Settings
from tests.integration.tier_work import TIER, create_tenant, put_tasks
from tests.streams.engine.workload import Reader
from tests.support.load import Journal
from tests.support.roles import Installation, Role, has_members, installation
from tests.support.waiting import eventually
from topics.catalogue import Catalogue

pytestmark = [pytest.mark.kafka, pytest.mark.postgres, pytest.mark.timeout(170)]


@pytest.fixture
def roles(
    kafka_settings: Settings, catalogue: Catalogue, postgres_database: str, tmp_path: Path
) -> Iterator[Installation]:
    with installation(kafka_settings, postgres_database, tmp_path) as made:
        yield made


@pytest.fixture
def tenant_id(roles: Installation, tmp_path: Path) -> str:
    return create_tenant(roles, tmp_path)


def left(role: Role) -> tuple[int, str]:
    """Exit code of a worker that leaves by itself, and the reason that it logs."""
    role.expected_to_run = False
    code = role.process.wait(60)
    lines = [line for line in role.log.read_text().splitlines() if "the worker has left" in line]
    return code, lines[-1] if lines else role.tail()


def test_a_number_of_tasks_once_and_until_it_is_empty(roles: Installation, tenant_id: str) -> None:
    journal = Journal(roles.journal)
    code, reason = left(roles.start("queue", "work", "high", "--once"))
    assert (code, "empty" in reason) == (0, True), reason
    put_tasks(roles.settings, tenant_id, 30)
    code, reason = left(roles.start("work", "high", "--once"))
    assert (code, "max_jobs" in reason, len(journal.read().ended)) == (0, True, 1), reason
    code, reason = left(roles.start("work", "high", "--max-jobs", "10", "--window", "3"))
    assert (code, "max_jobs" in reason, len(journal.read().ended)) == (0, True, 11), reason
    code, reason = left(roles.start("work", "high", "--stop-when-empty"))
    assert (code, "empty" in reason, len(journal.read().ended)) == (0, True, 30), reason
    assert journal.repeated() == set()


def test_memory_and_time_let_it_leave_and_lose_nothing(roles: Installation, tenant_id: str) -> None:
    journal = Journal(roles.journal)
    put_tasks(roles.settings, tenant_id, 5, sleep_s=1.0)
    memory = roles.start("work", "high", "--memory", "10")
    code, reason = left(memory)
    assert (code, "memory" in reason) == (12, True), reason
    code, reason = left(roles.start("work", "high", "--max-time", "4"))
    assert (code, "max_time" in reason) == (0, True), reason
    left(roles.start("work", "high", "--stop-when-empty"))
    assert len(journal.read().ended) == 5
    assert journal.repeated() == set()


def test_timeout_tries_and_grace_are_those_of_the_command(
    roles: Installation, tenant_id: str, kafka_settings: Settings, catalogue: Catalogue
) -> None:
    events = Reader(kafka_settings, catalogue.events)
    put_tasks(kafka_settings, tenant_id, 1, sleep_s=30.0)
    worker = roles.start("work", TIER, "--timeout", "0.5", "--tries", "1", "--sleep", "0.1")
    outcome = eventually(events.events, timeout_s=60)[0]
    # The only try was used up, so the task goes to the failed tier at once.
    assert (outcome.kind, outcome.next_topic) == ("failed", catalogue.topic("webhook-failed"))
    worker.stop()

    put_tasks(kafka_settings, tenant_id, 1, sleep_s=25.0, first=1)
    worker = roles.start("work", TIER, "--grace", "0")
    journal = Journal(roles.journal)
    eventually(lambda: len(journal.read().starts) == 2, timeout_s=60)
    worker.stop()
    assert len(journal.read().ended) == 0
    assert "released" in {event.kind for event in events.events()}
    events.close()


def test_what_runs_ends_within_the_grace(roles: Installation, tenant_id: str, catalogue: Catalogue) -> None:
    journal = Journal(roles.journal)
    worker = roles.start("work", TIER)
    admin = admin_client(roles.settings)
    eventually(lambda: has_members(admin, TIER, catalogue.topic(TIER), members=1), timeout_s=60)
    put_tasks(roles.settings, tenant_id, 3, sleep_s=3.0)
    eventually(lambda: len(journal.read().starts) == 3)
    worker.stop()
    assert len(journal.read().ended) == 3
