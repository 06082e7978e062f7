"""``webhook status`` beside an embedded broker, and ``WebhookQueueService.get_queue_health``."""

import json
import shutil
import subprocess
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from schemas.events import now_micros
from streams.cli.main import app
from streams.control.log import ControlWriter, control_state
from streams.control.view import PAUSE
from streams.health.service import WebhookQueueService
from streams.health.snapshots import health_state
from streams.health.states import TierState, TierStates
from streams.settings import Settings
from tests.streams.cli.commands import commands_of
from topics.tiers import TIERS

_SELECT = 'to_entries[] | select(.value.status == "unhealthy") | .key'
WELL = TierState(status="healthy", delayed=0)
ILL = replace(WELL, status="unhealthy", load=7200, lag=7200, overdue=7000, oldest_s=95.0, workers=2, attempts_per_s=2.0)


@pytest.mark.embedded
def test_the_tiers_are_shown_as_the_monitor_has_measured_them(
    embedded_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with commands_of(embedded_settings, monkeypatch) as commands:
        measured = commands.run("status")
        assert "No monitor runs" in measured
        assert measured.count("healthy") >= len(TIERS)
        writer = ControlWriter(embedded_settings)
        states = {**dict.fromkeys(TIERS, WELL), "webhook-redis": ILL}
        pause = control_state(PAUSE, "webhook-low", {"paused": True, "until": None}, "ann@desk", "[supplier] down")
        writer.write([health_state(TierStates(now_micros(), states), "host:1"), pause])
        shown = commands.run("status")
        assert "No monitor runs" not in shown
        [redis] = [line for line in shown.splitlines() if line.startswith("webhook-redis")]
        assert redis.split() == [
            "webhook-redis",
            "unhealthy",
            "7,200",
            "1",
            "min",
            "35",
            "s",
            "2",
            "0",
            "0",
            "2.0",
            "1",
            "h",
        ]
        assert "paused by ann@desk: [supplier] down" in shown
        told = commands.json("status")
        assert list(told) == list(TIERS)
        assert (told["webhook-redis"]["status"], told["webhook-redis"]["clears_in_s"]) == ("unhealthy", 3600)
        assert (told["webhook-low"]["paused"], told["webhook-low"]["paused_by"]) == (True, "ann@desk")
        if jq := shutil.which("jq"):
            chosen = subprocess.run(
                [jq, "-r", _SELECT], input=json.dumps(told), capture_output=True, text=True, check=True
            )
            assert chosen.stdout == "webhook-redis\n"
        assert CliRunner().invoke(app, ["status", "--fail-on-unhealthy"]).exit_code == 1
        health = WebhookQueueService().get_queue_health()
        assert (list(health), health["webhook-redis"]["load"]) == (list(TIERS), 7200)
        assert set(health["webhook-high"]) == {"status", "load", "last_checked"}
        writer.close()


@pytest.mark.usefixtures("place")
def test_where_the_brokers_do_not_answer_every_tier_is_in_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOK_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    shown = CliRunner().invoke(app, ["status", "--json"])
    told = json.loads(shown.stdout)
    assert shown.exit_code != 0
    assert {each["status"] for each in told.values()} == {"error"}
    assert "No Kafka broker answers" in told["webhook-high"]["error"]
    assert {each["status"] for each in WebhookQueueService().get_queue_health().values()} == {"error"}
