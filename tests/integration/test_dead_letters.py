"""A worker process amid records that it cannot read: it stops before it floods the topic, and they can be put back."""

import json
from pathlib import Path

import pytest
from confluent_kafka import Producer

from schemas.codec import encode
from schemas.events import DeadLetter, RecordHeader, now_micros
from streams.broker.connection import producer_config
from streams.engine.watchdog import EXIT_CODE
from streams.settings import Settings
from tests.integration.tier_work import TIER, create_tenant, put_tasks
from tests.streams.engine.workload import task_ready
from tests.streams.test_dead_letters import write
from tests.support.load import ENDPOINT, Journal
from tests.support.roles import Installation, Role, installation
from tests.support.waiting import eventually
from topics.catalogue import Catalogue

pytestmark = [pytest.mark.kafka, pytest.mark.postgres, pytest.mark.timeout(170)]


def _put_rubbish(settings: Settings, topic: str, count: int) -> None:
    producer = Producer(producer_config(settings))
    for number in range(count):
        producer.produce(topic, b"rubbish", b"%d" % number)
    assert producer.flush(20) == 0


def _letters(roles: Installation, *options: str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(roles.run("dead-letters", "list", "--json", "--limit", "1000", *options))
    return found


def _ended(role: Role) -> int:
    role.expected_to_run = False
    return role.process.wait(60)


def test_a_flood_stops_the_worker_with_a_text_and_again_when_it_is_started_again(
    kafka_settings: Settings, catalogue: Catalogue, postgres_database: str, tmp_path: Path
) -> None:
    limit = {"WEBHOOK_DEAD_LETTERS_PER_MINUTE": "20"}
    with installation(kafka_settings, postgres_database, tmp_path) as roles:
        tenant_id = create_tenant(roles, tmp_path)
        _put_rubbish(kafka_settings, catalogue.topic(TIER), 60)
        for _ in range(2):
            worker = roles.start("work", TIER, extra=limit)
            assert _ended(worker) == EXIT_CODE
            assert "webhook dead-letters list" in worker.log.read_text()
            assert len(_letters(roles)) == 20
        # Another tier's worker does not mind, nor does one that may give up more.
        other = roles.start("work", "webhook-low", extra=limit)
        worker = roles.start("work", TIER, extra={"WEBHOOK_DEAD_LETTERS_PER_MINUTE": "1000"})
        put_tasks(kafka_settings, tenant_id, 10)
        journal = Journal(roles.journal)
        eventually(lambda: len(journal.read().ended) == 10, timeout_s=60)
        eventually(lambda: len(_letters(roles)) == 60)
        worker.stop()
        other.stop()


def test_a_record_that_was_put_back_is_carried_out(
    kafka_settings: Settings, catalogue: Catalogue, postgres_database: str, tmp_path: Path
) -> None:
    with installation(kafka_settings, postgres_database, tmp_path) as roles:
        tenant_id = create_tenant(roles, tmp_path)
        payload = '{"sequence": 1, "key": 1, "sleep_s": 0}'
        task = task_ready("0190a2c4-0000-7000-8000-000000000001", tenant_id=tenant_id, endpoint=ENDPOINT)
        task.payload = payload
        given_up = DeadLetter(
            topic=catalogue.topic(TIER),
            partition=0,
            offset=0,
            group=TIER,
            reason="undecodable",
            error="schema id 99 is unknown",
            failed_at=now_micros(),
            record_key=b"1|Order|1",
            value=encode(task),
            headers=[RecordHeader(name="traceparent", value=b"00-1")],
        )
        write(kafka_settings, given_up)
        (letter,) = _letters(roles)
        shown = roles.run("dead-letters", "show", letter["id"])
        assert task.event_id in shown
        assert "1 of 1 put back" in roles.run("dead-letters", "retry", letter["id"])
        worker = roles.start("work", TIER, "--once")
        assert _ended(worker) == 0
        assert Journal(roles.journal).read().ended == {task.event_id}
        assert _letters(roles) == []
        assert _letters(roles, "--settled")[0]["state"] == "retried"
