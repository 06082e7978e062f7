"""What stops a role before it starts: said with what to do, exit code 2."""

import os
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from streams.broker.connection import admin_client
from streams.broker.embedded import EmbeddedBroker
from streams.broker.runtime import Runtime, embedded_database_url, write_runtime
from streams.cli.composition import check_topics
from streams.cli.roles import add_roles
from streams.errors import SetupError
from streams.settings import Settings
from topics.catalogue import Catalogue

APP = typer.Typer()
add_roles(APP)


def refusal(*arguments: str) -> SetupError:
    outcome = CliRunner().invoke(APP, list(arguments))
    assert isinstance(outcome.exception, SetupError), outcome.output
    return outcome.exception


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WEBHOOK_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("WEBHOOK_BOOTSTRAP_SERVERS", raising=False)
    monkeypatch.delenv("WEBHOOK_DATABASE_URL", raising=False)
    return tmp_path


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
