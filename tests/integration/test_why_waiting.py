"""Why events wait in a running house: one of each reason that can be brought about, by command, HTTP and view."""

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select

from handlers.service import LoadedPlugin
from projections.waiting import V_WAITING
from streams.broker.runtime import read_runtime
from tests.integration.test_embedded_house import _order, _plugin, _up, _webhook
from tests.support.waiting import eventually

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(170)]

LOW = "webhook-low"


class House:
    """A running house whose upstream does as the test says."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.engine: Engine
        self.plugin: LoadedPlugin
        self.engine, self.plugin = _plugin(data_dir)
        self.upstream = str(self.plugin.tenant.configuration.document["auth"]["url"])
        self._orders = 0

    def behave(self, **behaviour: object) -> None:
        url = self.upstream.replace("/api", "/_fake/behaviour")
        headers = {"Content-Type": "application/json"}
        urllib.request.urlopen(
            urllib.request.Request(url, json.dumps(behaviour).encode(), headers, method="PUT")
        ).close()

    def trigger(self, **options: object) -> str:
        self._orders += 1
        result = self.plugin.trigger_webhook("webhook/order", _order(self._orders), options=options)
        assert result, result.reason
        assert result.event_id is not None
        return result.event_id

    def command(self, *arguments: str) -> Any:
        done = _webhook(self.data_dir, *arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def http(self, path: str) -> Any:
        runtime = read_runtime(self.data_dir)
        assert runtime is not None
        token = (self.data_dir / "token").read_text().strip()
        headers = {"Authorization": f"Bearer {token}"}
        with urllib.request.urlopen(urllib.request.Request(f"{runtime.http_url}{path}", headers=headers)) as answer:
            return json.loads(answer.read())

    def view(self) -> dict[str, str]:
        with self.engine.connect() as connection:
            return {row.event_id: row.reason for row in connection.execute(select(V_WAITING))}

    def reasons(self) -> dict[str, str]:
        """By HTTP, where workers and the control topic are heard all the time."""
        answer = self.http("/v1/waiting?limit=1000")
        assert answer["live"]
        return {each["event_id"]: each["reason"] for each in answer["waiting"]}

    def expect(self, event_id: str, reason: str) -> None:
        eventually(lambda: self.reasons().get(event_id) == reason, 60, f"{event_id} is {reason}")


def test_each_event_says_why_it_waits(tmp_path: Path) -> None:
    with _up(tmp_path):
        house = House(tmp_path)
        expected: dict[str, str] = {}

        def event(reason: str, **options: object) -> str:
            event_id = house.trigger(**options)
            expected[event_id] = reason
            return event_id

        house.command("pause", "low", "--reason", "stock-taking")
        # As long as the handlers' clients have patience, what starts runs on.
        house.behave(delay_s=300)
        one = {"priority": 9, "model_type": "Order", "model_id": "1"}
        runs = event("running", **one)
        house.expect(runs, "running")
        busy = event("key_busy", **one)
        event("due_at", priority=9, delay=600)
        lane = {"priority": 9, "model_type": "Order", "model_id": "5", "ordering": "strict"}
        first, second = event("running", **lane), event("strict_lane", **lane)
        paused = event("paused", priority=1)
        eventually(lambda: house.reasons() == expected, 60, "every event has its reason")
        # The view and the others agree where both know; an order is placed behind an intent, so it is seen to run.
        unseen = {"key_busy", "paused"}
        seen = {each: "nth_in_tier" if reason in unseen else reason for each, reason in expected.items()}
        assert house.view() == seen
        for event_id, holder in ((busy, runs), (second, first), (paused, LOW)):
            assert house.http(f"/v1/events/{event_id}/waiting")["waiting"]["holder"] == holder

        [listed] = house.command("waiting", "--reason", "paused")
        assert (listed["event_id"], listed["tier"]) == (paused, LOW)
        why = house.command("why", paused)["waiting"]
        assert (why["reason"], why["detail"].endswith("stock-taking")) == ("paused", True)
        house.command("rates", "set", "1", "127.0.0.1", "--limit", "1", "--per", "1000", "--burst", "1")
        limited = house.trigger(priority=9)
        house.expect(limited, "rate")
        assert house.http(f"/v1/events/{limited}/waiting")["waiting"]["holder"] == "rate|1|127.0.0.1"
        house.engine.dispose()


def test_what_failed_waits_for_its_next_try(tmp_path: Path) -> None:
    with _up(tmp_path):
        house = House(tmp_path)
        house.behave(fail_next=1000)
        event_id = house.trigger(priority=9)
        house.expect(event_id, "retry_at")
        waiting = house.http(f"/v1/events/{event_id}/waiting")["waiting"]
        assert waiting["until"] > waiting["since"]
        house.engine.dispose()
