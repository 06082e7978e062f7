"""Every role as a process of its own on real Kafka and PostgreSQL: from a trigger to its outcome, and the stop."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from streams.settings import Settings
from tests.support.waiting import eventually
from topics.catalogue import Catalogue

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]

COMMAND = [sys.executable, "-c", "from streams.cli.main import main; main()"]
DOCUMENT = {
    "auth": {"url": "http://127.0.0.1:9", "client_id": "shop", "secret": "canary-secret"},
    "plugin_name": "drukwerkdeal.nl",
    "plugin_route_prefix": "dwd",
    "plugin_routes": [{"route": "orders", "method": "POST"}],
    "webhook_settings": [],
}
ROLES = (["intake"], ["work", "all"], ["relay"], ["project"], ["serve"])


def environment_of(settings: Settings, database_url: str) -> dict[str, str]:
    """The environment under which a command has these settings."""
    names = ("high", "beanstalk", "redis", "db", "low", "failed")
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("WEBHOOK_")},
        **{f"WEBHOOK_{name.upper()}_QUEUE": getattr(settings, f"{name}_queue") for name in names},
        "WEBHOOK_DATA_DIR": str(settings.data_dir),
        "WEBHOOK_BOOTSTRAP_SERVERS": settings.bootstrap_servers or "",
        "WEBHOOK_DATABASE_URL": database_url,
        "WEBHOOK_TOPIC_PREFIX": settings.topic_prefix,
        "WEBHOOK_PARTITIONS": str(settings.partitions),
        "WEBHOOK_HTTP_PORT": "0",
        "WEBHOOK_LOG_FORMAT": "json",
    }


class Installation:
    """Commands and role processes under one environment."""

    def __init__(self, environment: dict[str, str], directory: Path) -> None:
        self._environment = environment
        self._directory = directory
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [*COMMAND, *arguments], env=self._environment, capture_output=True, text=True, timeout=120, check=False
        )

    def output(self, *arguments: str) -> Any:
        """What a command prints as JSON; it must succeed."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def log(self, role: str) -> str:
        """What a role has logged."""
        return (self._directory / f"{role}.log").read_text()

    @contextmanager
    def running(self, roles: Sequence[list[str]]) -> Iterator[None]:
        """Roles, stopped by SIGTERM at the end; each must then leave with 0."""
        for role in roles:
            with (self._directory / f"{role[0]}.log").open("wb") as log:
                process = subprocess.Popen([*COMMAND, *role], env=self._environment, stdout=log, stderr=log)
            self.processes[role[0]] = process
        try:
            yield
            for process in self.processes.values():
                process.send_signal(signal.SIGTERM)
            codes = {role: process.wait(60) for role, process in self.processes.items()}
            assert codes == dict.fromkeys(codes, 0), "\n".join(self.log(role)[-2000:] for role in codes)
        finally:
            for process in self.processes.values():
                if process.poll() is None:
                    process.kill()
                    process.wait()


@pytest.fixture
def installation(
    kafka_settings: Settings, catalogue: Catalogue, postgres_database: str, tmp_path: Path
) -> Installation:
    return Installation(environment_of(kafka_settings, postgres_database), tmp_path)


def listening_url(installation: Installation) -> str:
    """Where `webhook serve` listens, once it does."""
    lines = [line for line in installation.log("serve").splitlines() if line.startswith("listening on ")]
    return lines[0].removeprefix("listening on ") if lines else ""


def ended(installation: Installation, event_id: str) -> str | None:
    """What became of an event, as `webhook events` shows it."""
    return next((each["kind"] for each in installation.output("events") if each["event_id"] == event_id), None)


def post(url: str, token: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    try:
        with urlopen(Request(f"{url}/v1/webhooks", json.dumps(body).encode(), headers), timeout=20) as answer:
            return answer.status, json.loads(answer.read())
    except HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def test_a_trigger_reaches_its_outcome_through_processes_of_their_own(
    installation: Installation, tmp_path: Path
) -> None:
    refused = installation.run("intake")
    assert (refused.returncode, "webhook migrate" in refused.stderr) == (2, True), refused.stderr
    assert installation.run("migrate").returncode == 0
    config = tmp_path / "shop.json"
    config.write_text(json.dumps(DOCUMENT))
    installation.output("tenants", "create", "Shop", "--config", str(config))
    token = installation.output("tokens", "create", "ci", "--scope", "operator")["token"]
    payload = json.dumps({"id": 7, "items": []})

    with installation.running(ROLES):
        done = installation.run(
            "trigger", "webhook/order", "--tenant", "1", "--payload", payload, "--priority", "9", "--wait",
            "--timeout", "90", "--json",
        )  # fmt: skip
        assert done.stdout, done.stderr
        shown = json.loads(done.stdout)
        # An order without items is refused by the handler itself: an outcome all the same, and exit code 1.
        assert (shown["tier"], shown["handler"], shown["outcome"]) == (
            "webhook-high",
            "OrderWebhookHandler",
            "rejected",
        )
        assert done.returncode == 1
        url = eventually(lambda: listening_url(installation))
        status, answer = post(url, token, {"tenant": 1, "endpoint": "webhook/order", "payload": {"id": 8, "items": []}})
        assert status == 202, answer
        eventually(lambda: ended(installation, answer["event_id"]) == "rejected", 60)
    for role in installation.processes:
        assert "canary-secret" not in installation.log(role)
