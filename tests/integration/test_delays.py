"""Delays to the second over restarts: none early, none lost, none twice (R7, R11).

``WEBHOOK_TEST_DELAYED`` sets the number of events, 300 by default, ``WEBHOOK_TEST_LONGEST_DELAY`` their longest delay
in seconds. Lateness is logged, apart from what a restart held up.
"""

import logging
import os
import random
from pathlib import Path
from typing import NamedTuple

import orjson
import pytest
from sqlalchemy import Engine, func, select

from projections.tables import WEBHOOK_EVENTS, WEBHOOK_SCHEDULE
from schemas.codec import encode
from schemas.events import WebhookRequested, now_micros
from schemas.identifiers import new_event_id
from streams.broker.connection import admin_client
from streams.capture.outbox import OutboxRow, append
from streams.settings import Settings
from tests.support.load import CONFIGURATION, ENDPOINT, Journal
from tests.support.roles import Installation, Role, has_members
from tests.support.waiting import eventually
from topics.catalogue import Catalogue

EVENTS = int(os.environ.get("WEBHOOK_TEST_DELAYED", "300"))
LONGEST_S = int(os.environ.get("WEBHOOK_TEST_LONGEST_DELAY", "20"))
LIMIT_S = 120.0 + LONGEST_S + EVENTS / 100
RECOVERY_US = 15_000_000
TIER = "webhook-high"

pytestmark = [pytest.mark.kafka, pytest.mark.postgres, pytest.mark.timeout(2 * LIMIT_S)]
_log = logging.getLogger(__name__)


class Delayed(NamedTuple):
    """An event and when it is due, microseconds."""

    event_id: str
    due_at: int


def ask_for(engine: Engine, catalogue: Catalogue, tenant_id: str) -> list[Delayed]:
    """Put events with random delays into the outbox."""
    generator = random.Random(11)
    rows, asked = [], []
    for number in range(EVENTS):
        request = WebhookRequested(
            event_id=new_event_id(),
            tenant_id=tenant_id,
            endpoint=ENDPOINT,
            event_type="webhook_journal",
            trigger="manual",
            requested_at=now_micros(),
            payload=orjson.dumps({"sequence": number, "key": number, "sleep_s": 0}).decode(),
            priority=9,
            delay_s=generator.randint(1, LONGEST_S),
        )
        asked.append(Delayed(request.event_id, request.requested_at + (request.delay_s or 0) * 1_000_000))
        rows.append(
            OutboxRow(
                catalogue.requests,
                request.event_id.encode(),
                encode(request),
                "WebhookRequested",
                None,
                tenant_id,
                request.event_id,
            )
        )
    with engine.begin() as connection:
        append(connection, rows)
    return asked


def count(engine: Engine, *conditions: object) -> int:
    with engine.connect() as connection:
        found: int = connection.execute(select(func.count()).where(*conditions)).scalar_one()  # type: ignore[arg-type]
    return found


def restarted(roles: Installation, role: Role, *arguments: str) -> Role:
    """Kill a role and start it again."""
    role.kill()
    return roles.start(*arguments)


def test_delays_over_restarts_are_never_early_and_never_lost(
    roles: Installation, engine: Engine, catalogue: Catalogue, kafka_settings: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "tenant.json"
    file.write_bytes(orjson.dumps(CONFIGURATION))
    tenant_id = str(orjson.loads(roles.run("tenants", "create", "Late", "--config", str(file), "--json"))["id"])
    relay, projector, worker = roles.start("relay"), roles.start("project"), roles.start("work", "all")
    roles.start("intake")
    admin = admin_client(kafka_settings)
    eventually(lambda: has_members(admin, TIER, catalogue.topic(TIER), members=1), LIMIT_S)
    asked = ask_for(engine, catalogue, tenant_id)
    journal = Journal(roles.journal)

    def all_of(*conditions: object) -> bool:
        roles.check()
        return count(engine, *conditions) == EVENTS

    def done(share: float) -> bool:
        roles.check()
        return len({start.event_id for start in journal.read().starts}) >= share * EVENTS

    eventually(lambda: all_of(WEBHOOK_SCHEDULE.c.version.is_not(None)), LIMIT_S)
    ready = now_micros()
    eventually(lambda: done(0.15), LIMIT_S)
    restarts = [now_micros()]
    relay = restarted(roles, relay, "relay")
    projector = restarted(roles, projector, "project")
    eventually(lambda: done(0.5), LIMIT_S)
    restarts.append(now_micros())
    worker = restarted(roles, worker, "work", "all")
    eventually(lambda: done(1), LIMIT_S, "every event was started")
    eventually(lambda: all_of(WEBHOOK_EVENTS.c.status == "completed"), LIMIT_S, "every event is completed")
    first: dict[str, int] = {}
    for start in journal.starts:
        first.setdefault(start.event_id, start.wall_us)
    lateness_s = sorted((first[each.event_id] - each.due_at) / 1e6 for each in asked)
    quiet = [each for each in asked if ready < each.due_at < restarts[0] or each.due_at > restarts[1] + RECOVERY_US]
    quiet_s = sorted((first[each.event_id] - each.due_at) / 1e6 for each in quiet)
    _log.warning(
        "%d events; %d of them outside restarts with a p99 lateness of %.3f s; the latest %.1f s; %d repeated",
        EVENTS, len(quiet_s), quiet_s[int(len(quiet_s) * 0.99)] if quiet_s else 0.0, lateness_s[-1],
        len(journal.repeated()),
    )  # fmt: skip
    assert lateness_s[0] >= 0, "none is early"
    assert set(first) == {each.event_id for each in asked}
    # A killed worker may have started what it could not record; nothing else is started twice.
    assert all(start.pid == worker.pid for start in journal.starts[-1:])
    assert journal.repeated() <= {start.event_id for start in journal.starts if start.pid != worker.pid}
