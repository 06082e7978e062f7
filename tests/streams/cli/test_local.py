"""`webhook local` as a user runs it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from streams.broker import local
from streams.broker.jars import kafka_java
from streams.cli.local import local_app
from streams.errors import SetupError
from tests.support.services import missing, service_directory

Run = Callable[..., Result]


@pytest.fixture
def data_dir() -> Iterator[Path]:
    with service_directory() as directory:
        yield directory
        local.stop(directory)


@pytest.fixture
def run(data_dir: Path) -> Run:
    return lambda *arguments: CliRunner().invoke(local_app, list(arguments), env={"WEBHOOK_DATA_DIR": str(data_dir)})


@pytest.mark.kafka
@pytest.mark.postgres
def test_start_status_stop(run: Run, data_dir: Path) -> None:
    try:
        kafka_java()
    except SetupError as error:
        missing("Apache Kafka", error)
    started = run("start", "--json")
    assert started.exit_code == 0, started.output
    runtime = json.loads(started.stdout)
    assert runtime["mode"] == "local"

    shown = run("status")
    assert shown.exit_code == 0
    assert runtime["bootstrap_servers"] in shown.output
    rows = json.loads(run("status", "--json").stdout)
    assert [(row["service"], row["running"]) for row in rows] == [("kafka node 1", True), ("postgresql", True)]
    assert all(Path(row["log"]).is_file() for row in rows)

    refused = run("start", "--nodes", "3").exception
    assert isinstance(refused, SetupError)
    assert "made with 1 node(s)" in str(refused)

    assert json.loads(run("stop", "--json").stdout) == {"stopped": True}
    assert "Nothing was running" in run("stop").output
    stopped = run("status", "--json")
    assert (stopped.exit_code, [row["running"] for row in json.loads(stopped.stdout)]) == (1, [False, False])


def test_nothing_was_ever_started(run: Run, data_dir: Path) -> None:
    shown = run("status")
    assert shown.exit_code == 1
    assert f"No local services in {data_dir}" in shown.output
    assert "webhook local start" in shown.output


@pytest.mark.parametrize("command", ["", "start", "stop", "status"])
def test_help_has_examples(run: Run, command: str) -> None:
    shown = run(*command.split(), "--help")
    assert shown.exit_code == 0
    assert f"webhook local {command or 'start'}" in shown.output.split("Examples")[1]
