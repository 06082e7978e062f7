"""What stops a role before it starts: said with what to do, exit code 2."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streams.broker.connection import admin_client
from streams.broker.embedded import EmbeddedBroker
from streams.broker.runtime import Runtime, embedded_database_url, write_runtime
from streams.cli.composition import check_topics
from streams.cli.main import app
from streams.errors import SetupError
from streams.settings import Settings
from topics.catalogue import Catalogue


def refusal(*arguments: str) -> SetupError:
    outcome = CliRunner().invoke(app, list(arguments))
    assert isinstance(outcome.exception, SetupError), outcome.output
    return outcome.exception


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    at_terminate = signal.getsignal(signal.SIGTERM)
    monkeypatch.setenv("WEBHOOK_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("WEBHOOK_BOOTSTRAP_SERVERS", raising=False)
    monkeypatch.delenv("WEBHOOK_DATABASE_URL", raising=False)
    yield tmp_path
    signal.signal(signal.SIGTERM, at_terminate)


@pytest.mark.parametrize("role", ["work all", "intake", "relay", "project", "serve"])
def test_beside_embedded_services_a_role_names_the_local_ones(data_dir: Path, role: str) -> None:
    url = embedded_database_url(data_dir)
    write_runtime(data_dir, Runtime("embedded", "127.0.0.1:9", url, None, os.getpid(), "epoch"))

    error = refusal(*role.split())

    assert "webhook local start" in error.hint
    assert error.exit_code == 2


@pytest.mark.parametrize("role", ["work all", "intake", "relay", "project", "serve"])
def test_where_nothing_runs_a_role_says_what_to_start(data_dir: Path, role: str) -> None:
    assert "webhook up" in refusal(*role.split()).hint


def test_an_unknown_tier_is_named_with_the_known_ones(data_dir: Path) -> None:
    error = refusal("work", "high", "webhook-none")

    assert "webhook-none" in error.message
    assert "webhook-beanstalk" in error.hint


@pytest.mark.embedded
def test_topics_must_exist_with_their_partitions(
    settings: Settings, catalogue: Catalogue, embedded_broker: EmbeddedBroker
) -> None:
    here = embedded_broker.settings(settings)
    admin = admin_client(here)
    check_topics(admin, here)

    with pytest.raises(SetupError, match="4 partitions instead of 6"):
        check_topics(admin, here.model_copy(update={"partitions": 6}))
    with pytest.raises(SetupError, match="lacks topics") as missing:
        check_topics(admin, here.model_copy(update={"topic_prefix": "elsewhere"}))
    assert "webhook topics apply" in missing.value.hint


def test_a_role_that_is_ended_before_it_has_begun_leaves_in_order(data_dir: Path) -> None:
    """Brokers that take a connection and say nothing keep it in its preparations."""
    webhook = Path(sys.executable).with_name("webhook")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with subprocess.Popen(
            [webhook, "project"],
            env={**os.environ, "WEBHOOK_BOOTSTRAP_SERVERS": address, "WEBHOOK_DATABASE_URL": "sqlite://"},
        ) as process:
            try:
                connection, _ = silent.accept()
                process.terminate()
                assert process.wait(30) == 0
                connection.close()
            finally:
                process.kill()
