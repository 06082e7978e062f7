"""`webhook topics` on a real broker, as a user runs it."""

import json
from collections.abc import Callable

import pytest
from typer.testing import CliRunner, Result

from streams.broker.embedded import EmbeddedBroker
from streams.broker.runtime import Runtime, write_runtime
from streams.cli.topics import topics_app
from streams.errors import SetupError
from streams.settings import Settings

Run = Callable[..., Result]


@pytest.fixture
def run(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a subcommand in the environment of ``settings``, with further variables."""
    monkeypatch.setenv("WEBHOOK_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("WEBHOOK_TOPIC_PREFIX", settings.topic_prefix)
    for tier in ("high", "beanstalk", "redis", "db", "low", "failed"):
        monkeypatch.setenv(f"WEBHOOK_{tier.upper()}_QUEUE", getattr(settings, f"{tier}_queue"))

    def invoke(*arguments: str, **environment: str) -> Result:
        return CliRunner().invoke(topics_app, list(arguments), env={"WEBHOOK_PARTITIONS": "2", **environment})

    return invoke


@pytest.mark.kafka
def test_plan_apply_check(run: Run, kafka: str, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOK_BOOTSTRAP_SERVERS", kafka)
    missing = run("check", "--json")
    assert missing.exit_code == 1
    changes = json.loads(missing.output)["changes"]
    assert {change["action"] for change in changes} == {"create"}
    assert len(changes) == len(settings.catalogue().specs)

    planned = run("plan")
    assert planned.exit_code == 0
    assert settings.high_queue in planned.output

    applied = run("apply")
    assert (applied.exit_code, f"{len(changes)} change(s) made." in applied.output) == (0, True)
    assert (run("check").exit_code, json.loads(run("check", "--json").output)) == (0, {"changes": []})
    assert "nothing was changed" in run("apply").output

    refused = run("check", WEBHOOK_PARTITIONS="1")
    assert refused.exit_code == 1
    assert "of them it refuses" in refused.output
    again = run("apply", WEBHOOK_PARTITIONS="1")
    assert isinstance(again.exception, SetupError)
    assert "Nothing was changed" in str(again.exception)


@pytest.mark.embedded
def test_the_embedded_broker_has_its_topics_already(
    run: Run, embedded_broker: EmbeddedBroker, settings: Settings
) -> None:
    address = embedded_broker.bootstrap_servers
    write_runtime(settings.data_dir, Runtime("embedded", address, "sqlite:///x", None, 1, embedded_broker.epoch))
    for command in ("plan", "apply", "check"):
        error = run(command).exception
        assert isinstance(error, SetupError)
        assert f"`webhook topics {command}` needs a real Kafka" in str(error)
        assert "webhook local start" in error.hint


def test_no_broker_says_what_to_start(run: Run) -> None:
    error = run("plan").exception
    assert isinstance(error, SetupError)
    assert error.exit_code == 2
    assert "webhook up" in error.hint


@pytest.mark.parametrize("command", ["", "plan", "apply", "check"])
def test_help_has_examples(run: Run, command: str) -> None:
    shown = run(*command.split(), "--help")
    assert shown.exit_code == 0
    assert f"webhook topics {command or 'plan'}" in shown.output.split("Examples")[1]
