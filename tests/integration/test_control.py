"""Pause, resume and restart through the command: in the embedded house, and by worker processes on Kafka."""

import json
import time
from pathlib import Path

import pytest

from streams.broker.connection import admin_client
from streams.settings import Settings
from tests.integration.test_embedded_house import _order, _up, _webhook
from tests.integration.tier_work import TIER, create_tenant, put_tasks
from tests.support.load import Journal
from tests.support.roles import has_members, installation
from tests.support.waiting import eventually
from topics.catalogue import Catalogue
from topics.tiers import TIERS

OBEYED_S = 1.0


def _trigger(data_dir: Path, number: int, timeout_s: float) -> str:
    """Status of an event of the high tier after at most so many seconds."""
    payload = json.dumps(_order(number))
    options = ("--tenant", "1", "--priority", "9", "--wait", "--timeout", str(timeout_s), "--json")
    done = _webhook(data_dir, "trigger", "webhook/order", "--payload", payload, *options)
    return str(json.loads(done.stdout)["status"])


def _done(data_dir: Path, *arguments: str) -> str:
    done = _webhook(data_dir, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.embedded
@pytest.mark.timeout(170)
def test_the_embedded_house_keeps_a_pause_over_kill_9_and_restarts_its_workers(tmp_path: Path) -> None:
    with _up(tmp_path) as process:
        assert _trigger(tmp_path, 1, timeout_s=60) == "completed"
        _done(tmp_path, "pause", "all", "--reason", "stock-taking")
        workers = json.loads(_done(tmp_path, "workers", "--json"))
        assert {row["tier"]: (row["partitions"], row["paused"]) for row in workers} == {
            tier: (list(range(12)), True) for tier in TIERS
        }
        assert _trigger(tmp_path, 2, timeout_s=2) == "pending"
        process.kill()
        process.wait()
    # Nothing runs now: this one holds from the next start on.
    _done(tmp_path, "queue", "pause", "low")
    with _up(tmp_path) as process:
        paused = json.loads(_done(tmp_path, "queue", "paused", "--json"))
        assert [(row["tier"], row["reason"]) for row in paused] == [("all", "stock-taking"), ("webhook-low", None)]
        assert _trigger(tmp_path, 3, timeout_s=2) == "pending"
        resumed = _webhook(tmp_path, "resume", "all")
        assert "webhook-low" in resumed.stderr
        assert _trigger(tmp_path, 4, timeout_s=60) == "completed"
        _done(tmp_path, "restart", "all")
        eventually(lambda: "begin anew" in (tmp_path / "up.log").read_text())
        assert _trigger(tmp_path, 5, timeout_s=60) == "completed"
        process.terminate()
        assert process.wait(60) == 0


@pytest.mark.kafka
@pytest.mark.postgres
@pytest.mark.timeout(170)
def test_workers_obey_within_a_second_and_later_ones_at_once(
    kafka_settings: Settings, catalogue: Catalogue, postgres_database: str, tmp_path: Path
) -> None:
    with installation(kafka_settings, postgres_database, tmp_path) as roles:
        tenant_id = create_tenant(roles, tmp_path)
        journal = Journal(roles.journal)
        worker = roles.start("work", TIER, "--window", "20")
        put_tasks(kafka_settings, tenant_id, 4000, sleep_s=0.1)
        eventually(lambda: len(journal.read().starts) > 50)
        (row,) = json.loads(roles.run("workers", "--json"))
        assert row["worker"].endswith(f":{worker.pid}")
        # One place of the window is kept for another tenant (R15).
        assert (row["running"], row["window"], row["partitions"]) == (19, 20, [0, 1, 2, 3])
        assert len(row["oldest"]) >= 19
        roles.run("pause", TIER)
        told_at = time.time()
        # The command returns once the log has it; a start later than a second after that disobeys.
        eventually(lambda: time.time() > told_at + OBEYED_S)
        obeyed = len(journal.read().starts)
        eventually(lambda: len(journal.read().ended) == obeyed)
        late = [start for start in journal.read().starts if start.wall_us > (told_at + OBEYED_S) * 1_000_000]
        assert late == []
        assert obeyed < 4000
        worker.stop()

        second = roles.start("work", TIER, "--window", "20")
        admin, topic = admin_client(kafka_settings), catalogue.topic(TIER)
        eventually(lambda: has_members(admin, TIER, topic, members=1), timeout_s=60)
        assert len(journal.read().starts) == obeyed
        roles.run("resume", TIER)
        eventually(lambda: len(journal.read().starts) > obeyed)
        roles.run("restart", "all")
        second.expected_to_run = False
        second.wait_stopped()
        third = roles.start("work", TIER)
        eventually(lambda: has_members(admin, TIER, topic, members=1), timeout_s=60)
        eventually(lambda: len(journal.read().ended) == 4000, timeout_s=90)
        assert journal.repeated() == set()
        third.stop()
