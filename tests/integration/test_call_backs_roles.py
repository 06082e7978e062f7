"""Call-backs before, after, twice and never over processes of all roles, killed while events wait (R1, R7).

``WEBHOOK_TEST_CALL_BACKS`` sets the number of events, 120 by default.
"""

import logging
import os
from collections import Counter
from pathlib import Path

import orjson
import pytest
from sqlalchemy import Engine, func, select

from handlers.call_backs import call_back_request
from projections.fold import fold
from projections.tables import WEBHOOK_EVENTS
from schemas.events import TaskEvent, WebhookRequested, now_micros
from schemas.identifiers import new_event_id
from schemas.kinds import KINDS
from streams.broker.connection import admin_client
from streams.capture.outbox import OutboxSink
from streams.settings import Settings
from tests.projections.stored import stored_rows
from tests.support.load import CONFIGURATION, ENDPOINT, Journal, Log, differences, projected_positions
from tests.support.roles import Installation, has_members
from tests.support.waiting import eventually
from topics.catalogue import Catalogue

EVENTS = int(os.environ.get("WEBHOOK_TEST_CALL_BACKS", "120"))
GROUPS = ("before", "after", "twice", "never")
TIER = "webhook-high"
LIMIT_S = 150.0 + EVENTS / 4
NEVER_S = 10.0
LONG_S = 3600.0

pytestmark = [pytest.mark.kafka, pytest.mark.postgres, pytest.mark.timeout(2 * LIMIT_S)]
_log = logging.getLogger(__name__)


class Asked:
    """Events of four groups, and call-backs for them, through the outbox."""

    def __init__(self, engine: Engine, catalogue: Catalogue, tenant_id: str) -> None:
        self.group = {new_event_id(): GROUPS[number % 4] for number in range(EVENTS)}
        self._sink = OutboxSink(engine, catalogue)
        self._tenant_id = tenant_id

    def ask(self) -> None:
        for number, (event_id, group) in enumerate(self.group.items()):
            timeout_s = NEVER_S if group == "never" else LONG_S
            payload = {"sequence": number, "key": number, "sleep_s": 0.05, "wait_for": event_id, "timeout_s": timeout_s}
            request = WebhookRequested(
                event_id=event_id,
                tenant_id=self._tenant_id,
                endpoint=ENDPOINT,
                event_type="webhook_journal",
                trigger="manual",
                requested_at=now_micros(),
                payload=orjson.dumps(payload).decode(),
                priority=9,
            )
            self._sink.accept(request)

    def call(self, *groups: str, number: int = 0) -> None:
        for event_id, group in self.group.items():
            if group in groups:
                payload = {"event": event_id, "number": number}
                self._sink.accept(call_back_request(self._tenant_id, event_id, payload, "vendor"))


def kinds(engine: Engine) -> Counter[str]:
    query = select(WEBHOOK_EVENTS.c.kind, func.count().label("events")).group_by(WEBHOOK_EVENTS.c.kind)
    with engine.connect() as connection:
        return Counter({row.kind: row.events for row in connection.execute(query)})


def test_each_wait_has_one_continuation_or_times_out_over_kills(
    roles: Installation, engine: Engine, catalogue: Catalogue, kafka_settings: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "tenant.json"
    file.write_bytes(orjson.dumps(CONFIGURATION))
    tenant_id = str(orjson.loads(roles.run("tenants", "create", "Calls", "--config", str(file), "--json"))["id"])
    relay, intake, projector = roles.start("relay"), roles.start("intake"), roles.start("project")
    workers = [roles.start("work", TIER) for _ in range(2)]
    admin = admin_client(kafka_settings)
    eventually(lambda: has_members(admin, TIER, catalogue.topic(TIER), members=2), LIMIT_S)
    asked, share = Asked(engine, catalogue, tenant_id), EVENTS // 4

    def reached(kind: str, count: int) -> bool:
        roles.check()
        return kinds(engine)[kind] >= count

    asked.call("before")
    asked.ask()
    eventually(lambda: reached("waiting", share // 2), LIMIT_S)
    workers[0].kill()
    projector.kill()
    projector = roles.start("project")
    # Who is called back early goes on; the others wait.
    eventually(lambda: reached("completed", share), LIMIT_S, "who was called before is completed")
    asked.call("after", "twice")
    asked.call("twice", number=1)
    eventually(lambda: reached("completed", share + 1), LIMIT_S)
    relay.kill()
    workers[1].kill()
    relay, worker = roles.start("relay"), roles.start("work", TIER)
    eventually(lambda: reached("completed", 3 * share), LIMIT_S, "all who were called are completed")
    eventually(lambda: reached("timed_out", share), LIMIT_S, "all others have timed out")
    log = Log(kafka_settings)
    for role in (worker, relay, intake):
        role.stop()
    eventually(
        lambda: all(projected_positions(engine).get(each, 0) == end for each, end in log.ends().items()), LIMIT_S
    )
    projector.stop()
    facts = log.facts()
    with engine.connect() as connection:
        assert differences(stored_rows(connection), fold(facts)) == []
    _judge(
        asked, [fact for fact in facts if isinstance(fact, TaskEvent)], Journal(roles.journal).read(), workers[0].pid
    )


def _judge(asked: Asked, facts: list[TaskEvent], journal: Journal, killed: int) -> None:
    ends: dict[str, list[TaskEvent]] = {}
    for fact in facts:
        if KINDS[fact.kind].final:
            ends.setdefault(fact.event_id, []).append(fact)
    assert {event_id: [end.kind for end in found] for event_id, found in ends.items()} == {
        event_id: ["timed_out" if group == "never" else "completed"] for event_id, group in asked.group.items()
    }
    for event_id, [end] in ends.items():
        if asked.group[event_id] != "never":
            assert orjson.loads(end.result or "") == {"event": event_id, "number": 0}
    recorded = Counter(fact.kind for fact in facts)
    _log.warning("%s; handlers run again: %d", dict(recorded), len(journal.repeated()))
    assert recorded["called_back"] == EVENTS
    # Only what a killed worker could not record has run again.
    assert journal.repeated() <= {start.event_id for start in journal.starts if start.pid == killed}
