"""The command's entry: help, version, and every error as a message with a code, never as a traceback."""

import subprocess
import sys

import pytest
import typer
from confluent_kafka import KafkaError, KafkaException
from typer.testing import CliRunner

from streams.cli import main as entry
from streams.errors import SetupError
from streams.settings import Settings


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command line as the script does; returns its exit code."""
    monkeypatch.setattr(sys, "argv", ["webhook", *arguments])
    with pytest.raises(SystemExit) as left:
        entry.main()
    return int(left.value.code or 0)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """Replaces the application by one whose command raises what the test puts into the list."""
    errors: list[BaseException] = []
    app = typer.Typer(pretty_exceptions_enable=False)

    @app.command()
    def fail() -> None:
        raise errors[0]

    monkeypatch.setattr(entry, "app", app)
    return errors


def test_help_shows_examples_and_exit_codes() -> None:
    shown = CliRunner().invoke(entry.app, ["--help"])

    assert shown.exit_code == 0
    assert "webhook trigger webhook/order --tenant 1" in shown.output
    assert "Exit codes" in shown.output


def test_every_command_has_help_with_an_example() -> None:
    group = typer.main.get_command(entry.app)
    commands = dict(getattr(group, "commands", {}))
    while commands:
        path, command = commands.popitem()
        commands.update({f"{path} {name}": each for name, each in getattr(command, "commands", {}).items()})
        shown = CliRunner().invoke(entry.app, [*path.split(), "--help"])
        assert shown.exit_code == 0, path
        assert "Example" in shown.output, f"the help of `webhook {path}` shows no example"


@pytest.mark.parametrize("name", list(entry.COMMANDS))
def test_the_overview_says_what_a_command_says_of_itself(name: str) -> None:
    command = typer.main.get_command(entry.app).commands[name]  # type: ignore[attr-defined]

    assert " ".join(command.load().help.split()).startswith(command.help)


@pytest.mark.parametrize("use", ["import streams.cli.main", "import streams.cli.main as m; m.app(['--help'])"])
def test_the_overview_needs_none_of_the_heavy_packages(use: str) -> None:
    script = f"""
import atexit, sys
heavy = {{"faust", "aiokafka", "confluent_kafka", "sqlalchemy", "pydantic"}}
atexit.register(lambda: print("loaded:", sorted(heavy & set(sys.modules))))
{use}
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "loaded: []"


@pytest.mark.parametrize("spelled", [["webhook:status"], ["queue:work"], ["webhook:metrics"]])
def test_the_original_spelling_is_understood(spelled: list[str]) -> None:
    shown = CliRunner().invoke(entry.app, [*spelled, "--help"])
    assert shown.exit_code == 0
    assert f"webhook {spelled[0].removeprefix('webhook:').replace(':', ' ')}" in shown.output


def test_version() -> None:
    shown = CliRunner().invoke(entry.app, ["--version"])

    assert shown.exit_code == 0
    assert shown.output.startswith("webhook-streams ")


def test_a_set_up_error_is_a_message_a_hint_and_its_own_code(
    failing: list[BaseException], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing.append(SetupError("no broker [1] here", "start one with `webhook up`", exit_code=7))

    assert run(monkeypatch) == 7
    shown = capsys.readouterr()
    assert "no broker [1] here" in shown.err
    assert "webhook up" in shown.err
    assert shown.out == ""


def test_any_other_error_is_one_line_and_code_1(
    failing: list[BaseException], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("WEBHOOK_LOG_LEVEL", raising=False)
    failing.append(RuntimeError("boom"))

    assert run(monkeypatch) == 1
    shown = capsys.readouterr().err
    assert "RuntimeError: boom" in shown
    assert "Traceback" not in shown
    assert "WEBHOOK_LOG_LEVEL=debug" in shown


def test_brokers_that_do_not_answer_are_named(
    failing: list[BaseException], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("WEBHOOK_LOG_LEVEL", raising=False)
    failing.append(KafkaException(KafkaError(KafkaError._TIMED_OUT, "Failed to get watermark offsets")))
    assert run(monkeypatch) == 1
    shown = capsys.readouterr().err
    assert "the Kafka brokers, or the leader of a partition, do not answer: Failed to get watermark offsets" in shown
    assert "unexpected" not in shown


def test_debug_shows_where_an_error_comes_from(failing: list[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOK_LOG_LEVEL", "debug")
    failing.append(RuntimeError("boom"))
    monkeypatch.setattr(sys, "argv", ["webhook"])

    with pytest.raises(RuntimeError, match="boom"):
        entry.main()


def test_an_interrupt_is_code_130(failing: list[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    failing.append(KeyboardInterrupt())

    assert run(monkeypatch) == 130


def test_a_bad_setting_is_named_without_its_value(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(lambda: typer.echo(Settings().data_dir))
    monkeypatch.setenv("WEBHOOK_PARTITIONS", "canary-value")
    monkeypatch.setattr(entry, "app", app)

    assert run(monkeypatch) == 2
    shown = capsys.readouterr().err
    assert "partitions" in shown
    assert "canary-value" not in shown
