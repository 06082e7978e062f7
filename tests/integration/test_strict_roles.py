"""Strict order with every role a process of its own, two projectors and two workers among them, killed under load.

``WEBHOOK_TEST_STRICT`` sets the number of events, 300 by default; there are 15 of each key.
"""

import os
from collections import defaultdict
from pathlib import Path

import orjson
import pytest
from sqlalchemy import Engine, func, select

from projections.tables import WEBHOOK_EVENTS
from streams.broker.connection import admin_client
from streams.settings import Settings
from tests.support.load import CONFIGURATION, Journal, append_load
from tests.support.roles import Installation, has_members
from tests.support.waiting import eventually
from topics.catalogue import Catalogue

EVENTS = int(os.environ.get("WEBHOOK_TEST_STRICT", "300"))
KEYS = EVENTS // 15
TIER = "webhook-high"
LIMIT_S = 150.0 + EVENTS / 10

pytestmark = [pytest.mark.kafka, pytest.mark.postgres, pytest.mark.timeout(2 * LIMIT_S)]


def completed(engine: Engine) -> int:
    with engine.connect() as connection:
        count: int = connection.execute(select(func.count()).where(WEBHOOK_EVENTS.c.status == "completed")).scalar_one()
    return count


def test_one_event_of_a_key_at_a_time_over_kills(
    roles: Installation, engine: Engine, catalogue: Catalogue, kafka_settings: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "tenant.json"
    file.write_bytes(orjson.dumps(CONFIGURATION))
    tenant_id = str(orjson.loads(roles.run("tenants", "create", "Strict", "--config", str(file), "--json"))["id"])
    relay, _, projector = roles.start("relay"), roles.start("intake"), roles.start("project")
    roles.start("project")
    workers = [roles.start("work", TIER) for _ in range(2)]
    admin = admin_client(kafka_settings)
    eventually(lambda: has_members(admin, TIER, catalogue.topic(TIER), members=2), LIMIT_S)
    append_load(engine, catalogue, tenant_id, EVENTS, KEYS, ordering="strict")

    def reached(share: float) -> bool:
        roles.check()
        return completed(engine) >= share * EVENTS

    eventually(lambda: reached(0.2), LIMIT_S)
    projector.kill()
    workers[0].kill()
    eventually(lambda: reached(0.4), LIMIT_S)
    relay.kill()
    roles.start("relay")
    eventually(lambda: reached(1), LIMIT_S, "every event is completed")
    _judge(Journal(roles.journal).read(), roles.journal)


def _judge(journal: Journal, path: Path) -> None:
    """No event of a key has begun before the former one had ended, in the journal's own order of lines."""
    sequences: dict[str, list[int]] = defaultdict(list)
    under_way: dict[str, str] = {}
    for line in path.read_text().splitlines():
        mark, event_id, key, sequence, *_ = line.split()
        if mark == "E":
            under_way.pop(key, None)
            continue
        # A killed worker's start has no end: the same event begins again.
        assert under_way.get(key, event_id) == event_id, f"two events of key {key} at once"
        under_way[key] = event_id
        if not sequences[key] or sequences[key][-1] != int(sequence):
            sequences[key].append(int(sequence))
    assert {key: sorted(found) for key, found in sequences.items()} == dict(sequences)
    assert sum(map(len, sequences.values())) == EVENTS
    assert len(journal.ended) == EVENTS
