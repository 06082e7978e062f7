"""The whole house in one process, through the command as a newcomer uses it.

``WEBHOOK_TEST_EVENTS`` sets how many events are in flight at the ``kill -9``, 300 by default.
"""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, func, select

from handlers.service import LoadedPlugin, PluginService
from projections.tables import WEBHOOK_ATTEMPTS, WEBHOOK_EVENTS
from streams.broker.runtime import read_runtime, resolve
from streams.capture.outbox import OUTBOX, OutboxSink
from streams.cli.composition import open_system
from streams.settings import Settings
from tests.support.waiting import eventually

WEBHOOK = Path(sys.executable).with_name("webhook")
EVENTS = int(os.environ.get("WEBHOOK_TEST_EVENTS", "300"))
AGAIN_S = 90.0 * max(1.0, EVENTS / 300) ** 2
"""Each order that is looked for reads the vendor's list, which has them all in the end."""

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(80 + AGAIN_S)]


def _environment(data_dir: Path) -> dict[str, str]:
    return {**os.environ, "WEBHOOK_DATA_DIR": str(data_dir), "WEBHOOK_HTTP_PORT": "0"}


def _webhook(data_dir: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [WEBHOOK, *arguments], env=_environment(data_dir), capture_output=True, text=True, timeout=120, check=False
    )


@contextmanager
def _up(data_dir: Path, *command: str | Path) -> Iterator["subprocess.Popen[str]"]:
    """A running ``webhook up`` whose door is open; killed at the end, if it still runs."""
    data_dir.mkdir(exist_ok=True)
    with (data_dir / "up.log").open("a") as log:
        process = subprocess.Popen(
            [*(command or [WEBHOOK]), "up"], env=_environment(data_dir), stdout=log, stderr=log, text=True
        )
    try:
        eventually(lambda: _listens(data_dir, process), timeout_s=60)
        yield process
    finally:
        process.kill()
        process.wait()


def _listens(data_dir: Path, process: "subprocess.Popen[str]") -> bool:
    assert process.poll() is None, (data_dir / "up.log").read_text()
    runtime = read_runtime(data_dir)
    return runtime is not None and runtime.pid == process.pid and runtime.http_url is not None


def _plugin(data_dir: Path) -> tuple[Engine, LoadedPlugin]:
    settings = resolve(Settings(data_dir=data_dir), kafka=False)
    system = open_system(settings)
    service = PluginService(system.tenants, system.plugins, OutboxSink(system.engine, system.catalogue))
    return system.engine, service.load("1")


def _order(number: int) -> dict[str, Any]:
    return {"id": number, "total": 25, "items": [{"sku": "FLYER-A5", "quantity": 500}]}


def _counts(engine: Engine) -> dict[str, int]:
    with engine.connect() as connection:
        rows = connection.execute(select(WEBHOOK_EVENTS.c.kind, func.count()).group_by(WEBHOOK_EVENTS.c.kind)).all()
    return dict(rows)


def test_the_demonstration_loses_nothing_and_runs_twice(tmp_path: Path) -> None:
    for _ in range(2):
        done = _webhook(tmp_path, "demo", "--json")
        assert done.returncode == 0, done.stderr
        shown = json.loads(done.stdout)
        assert shown["audit"]["missing"] == shown["audit"]["unexpected"] == 0
        assert shown["audit"]["requested"] == shown["audit"]["outcomes"] == 1250
        assert {tier["tier"] for tier in shown["tiers"]} >= {"webhook-high", "webhook-low"}


def test_a_trigger_is_carried_out_and_shown(tmp_path: Path) -> None:
    order = tmp_path / "order.json"
    order.write_text(json.dumps(_order(7)))
    with _up(tmp_path) as process:
        trigger = ("trigger", "webhook/order", "--tenant", "1", "--payload", f"@{order}", "--priority", "9")
        done = _webhook(tmp_path, *trigger, "--wait")
        assert done.returncode == 0, done.stderr
        assert "webhook-high" in done.stdout
        assert "OrderWebhookHandler" in done.stdout
        assert "completed" in done.stdout
        listed = json.loads(_webhook(tmp_path, "events", "--limit", "5", "--json").stdout)
        assert [event["tier"] for event in listed] == ["webhook-high"]
        refused = _webhook(tmp_path, "trigger", "webhook/order", "--tenant", "99", "--payload", "{}")
        assert refused.returncode == 2
        assert "99" in refused.stderr
        assert "Traceback" not in refused.stderr
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_kill_9_with_slow_events_in_flight_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """The shop's upstream dies too and has forgotten its orders: each is looked for, and then placed again (R6)."""
    shop = sys.executable, Path(__file__).with_name("shop_child.py")
    with _up(tmp_path, *shop) as process:
        engine, plugin = _plugin(tmp_path)
        fake = str(plugin.tenant.configuration.document["auth"]["url"]).replace("/api", "/_fake/behaviour")
        # Longer than the test: nothing of what is triggered now can end before the kill.
        slow = urllib.request.Request(
            fake, json.dumps({"delay_s": 300}).encode(), {"Content-Type": "application/json"}, method="PUT"
        )
        urllib.request.urlopen(slow).close()
        ids = set()
        for number in range(EVENTS):
            result = plugin.trigger_webhook("webhook/order", _order(number), options={"priority": 1 + number % 9})
            assert result, result.reason
            ids.add(result.event_id)
        # Some are accepted and running, some may still be on their way: both must come through.
        eventually(lambda: sum(_counts(engine).values()) >= EVENTS // 2, timeout_s=60)
        process.kill()
        process.wait()
        assert _counts(engine).get("completed", 0) == 0
    with _up(tmp_path, *shop):
        eventually(lambda: _counts(engine).get("completed", 0) >= EVENTS, timeout_s=AGAIN_S)
        with engine.connect() as connection:
            events = connection.execute(select(WEBHOOK_EVENTS.c.event_id, WEBHOOK_EVENTS.c.kind)).all()
            attempts = connection.execute(select(WEBHOOK_ATTEMPTS.c.event_id, WEBHOOK_ATTEMPTS.c.kind)).all()
        assert {(event_id, "completed") for event_id in ids} == {(row[0], row[1]) for row in events}
        done = [row[0] for row in attempts if row[1] == "completed"]
        assert sorted(done) == sorted(str(event_id) for event_id in ids)
        assert {row[1] for row in attempts} <= {"completed", "unclear", "retry"}
        # Their rows have done their duty: a start after this one has nothing to put on its way.
        eventually(lambda: _outbox(engine) == 0, timeout_s=30)
    engine.dispose()


def _outbox(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(OUTBOX)).scalar_one()


def test_bad_input_is_refused_in_words(tmp_path: Path) -> None:
    nothing_runs = _webhook(tmp_path, "trigger", "webhook/order", "--tenant", "1", "--payload", "{}")
    assert nothing_runs.returncode == 2
    assert "webhook up" in nothing_runs.stderr
    with _up(tmp_path):
        common = ("trigger", "webhook/order", "--tenant", "1", "--payload")
        large = tmp_path / "large.json"
        large.write_text(json.dumps({"text": "x" * 300_000}))
        for arguments, words in (
            ((*common, "[1]"), "object"),
            ((*common, "{}", "--priority", "11"), "priority"),
            ((*common, "{}", "--delay", "-1"), "delay"),
            ((*common, f"@{large}"), "bytes"),
            (("trigger", "webhook/nothing", "--tenant", "1", "--payload", "{}"), "webhook/order"),
        ):
            refused = _webhook(tmp_path, *arguments)
            assert refused.returncode == 2, refused.stdout + refused.stderr
            assert words in refused.stderr
            assert "Traceback" not in refused.stderr
        second = _webhook(tmp_path, "up")
        assert second.returncode == 2
        assert "already" in second.stderr
        assert json.loads(_webhook(tmp_path, "events", "--json").stdout) == []
