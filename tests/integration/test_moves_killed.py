"""A move under load whose owner is killed in the middle, on a real broker with roles as processes (R16)."""

from collections import defaultdict
from pathlib import Path

import orjson
import pytest
from confluent_kafka import Consumer, TopicPartition

from schemas.codec import decode_as
from schemas.events import TaskReady
from schemas.identifiers import new_event_id
from streams.broker.connection import admin_client, consumer_config
from streams.control.moves import Move, send_moves
from streams.settings import Settings
from tests.integration.tier_work import TIER, create_tenant
from tests.streams.engine.workload import Reader, put, task_ready
from tests.support.load import ENDPOINT, URGENT, Journal, Log, outcomes_by_event
from tests.support.roles import has_members, installation
from tests.support.waiting import eventually
from topics.balance import SLICES
from topics.catalogue import Catalogue

TARGET = "webhook-beanstalk"
EVENTS = 1600
KEYS = 200
KILLED_AFTER = 300
SLEEP_S = 0.2


def _put_load(settings: Settings, tenant_id: str) -> None:
    tasks = []
    for sequence in range(EVENTS):
        payload = orjson.dumps({"sequence": sequence, "key": sequence % KEYS, "sleep_s": SLEEP_S}).decode()
        task = task_ready(new_event_id(), tenant_id=tenant_id, endpoint=ENDPOINT, payload=payload, priority=URGENT)
        tasks.append((f"{tenant_id}|Order|{sequence % KEYS}", task))
    put(settings, settings.catalogue().topic(TIER), tasks)


def _moves(settings: Settings) -> list[Move]:
    """Half of the keys of each partition, up to its present end."""
    consumer = Consumer(consumer_config(settings, "ends"))
    topic = settings.catalogue().topic(TIER)
    ends = [consumer.get_watermark_offsets(TopicPartition(topic, n))[1] for n in range(settings.partitions)]
    consumer.close()
    return [Move(TIER, number, end, TARGET, 0, SLICES // 2) for number, end in enumerate(ends)]


def _order_in_target(reader: Reader) -> dict[int, list[int]]:
    """Sequences in the target by key; of those that came twice the first."""
    found: dict[int, list[int]] = defaultdict(list)
    for each in reader.read():
        payload = orjson.loads(decode_as(TaskReady, each.value).payload)
        if payload["sequence"] not in found[payload["key"]]:
            found[payload["key"]].append(payload["sequence"])
    return found


@pytest.mark.kafka
@pytest.mark.postgres
@pytest.mark.timeout(300)
def test_every_event_is_carried_out_once_although_the_owner_of_a_move_is_killed(
    kafka_settings: Settings, catalogue: Catalogue, postgres_database: str, tmp_path: Path
) -> None:
    with installation(kafka_settings, postgres_database, tmp_path) as roles:
        tenant_id = create_tenant(roles, tmp_path)
        journal, reader = Journal(roles.journal), Reader(kafka_settings, catalogue.topic(TARGET))
        # What runs is killed with it, and runs again: a small window leaves most of the load waiting.
        first = roles.start("work", TIER, "--window", "10")
        _put_load(kafka_settings, tenant_id)
        eventually(lambda: len(journal.read().starts) > 20, timeout_s=60)
        send_moves(kafka_settings, _moves(kafka_settings), by="test")
        eventually(lambda: len(reader.read()) > KILLED_AFTER, timeout_s=30)
        first.kill()
        # What had ended when its worker died may lack its outcome, so it may run again as what ran may.
        begun = {start.event_id for start in journal.read().starts}
        second = roles.start("work", TIER, "--window", "200")
        third = roles.start("work", TARGET, "--window", "200")
        eventually(lambda: len(journal.read().ended) == EVENTS, timeout_s=120)
        admin = admin_client(kafka_settings)
        assert has_members(admin, TIER, catalogue.topic(TIER), members=1)
        second.stop()
        third.stop()
        repeated = journal.read().repeated()
        assert repeated <= begun
        moved = _order_in_target(reader)
        assert len(reader.seen) > KILLED_AFTER
        assert all(sequences == sorted(sequences) for sequences in moved.values())
        in_target = {sequence for sequences in moved.values() for sequence in sequences}
        # What has gone is not run by who sent it, nor by its successor, but for what the first was killed over.
        not_gone = [start for start in journal.starts if start.pid in (first.pid, second.pid)]
        assert {start.event_id for start in not_gone if start.sequence in in_target} <= repeated
        assert not in_target & {start.sequence for start in not_gone if start.pid == second.pid}
        outcomes = outcomes_by_event(Log(kafka_settings).facts())
        assert len(outcomes) == EVENTS
        assert {event_id for event_id, found in outcomes.items() if len(found) > 1} == set()
        reader.close()
