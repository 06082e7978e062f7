"""``webhook plugins run``: one handler, called once."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from streams.cli.plugins import plugins_app
from streams.errors import SetupError
from tests.handlers.examples import small

app = typer.Typer()
app.add_typer(plugins_app)
ORDER = {"order_id": 7, "items": [{"sku": "A", "quantity": 2, "specs": {"color": "red"}}]}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WEBHOOK_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("WEBHOOK_OUTBOUND_ALLOW", "127.0.0.1")
    (tmp_path / "tenant.json").write_text(json.dumps(small()))
    (tmp_path / "order.json").write_text(json.dumps(ORDER))
    return tmp_path


def run(place: Path, handler: str, *more: str, payload: str = "order.json") -> Result:
    files = ("--config", str(place / "tenant.json"), "--payload", str(place / payload))
    return CliRunner().invoke(app, ["plugins", "run", handler, *files, *more])


def shown(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_a_handler_is_called_and_its_result_shown(place: Path) -> None:
    done = run(place, "OrderValidationHandler", "--json")
    assert done.exit_code == 0
    assert shown(done)["result"]["validation_status"] == "passed"
    assert "completed" in run(place, "OrderValidationHandler").stdout


def test_a_step_gets_the_result_of_the_one_before(place: Path) -> None:
    (place / "before.json").write_text('{"validation_status": "passed"}')
    done = run(place, "OrderTransformHandler", "--step", "1", "--previous", str(place / "before.json"), "--json")
    assert shown(done)["result"]["external_order"]["validation"] == {"validation_status": "passed"}


def test_a_rejection_and_a_fault_exit_1_without_secrets(place: Path) -> None:
    (place / "bad.json").write_text("{}")
    rejected = run(place, "OrderValidationHandler", "--json", payload="bad.json")
    assert (rejected.exit_code, shown(rejected)["code"]) == (1, "invalid_order")
    (place / "special.json").write_text('{"special_operation": "sync_external"}')
    away = run(place, "SpecialOrderWebhookHandler", "--json", payload="special.json")
    assert (away.exit_code, shown(away)["outcome"]) == (1, "retryable")
    assert "s3cr3t-canary" not in away.stdout + away.stderr


@pytest.mark.parametrize(
    ("handler", "more", "words"),
    [
        ("Gone", (), "has no handler Gone with `handle`"),
        ("OrderTransformHandler", (), "no handler OrderTransformHandler with `handle`"),
        ("OrderExportHandler", ("--step", "0"), "no handler OrderExportHandler with `handle_step`"),
    ],
)
def test_a_handler_that_is_not_there_is_named_with_what_is(
    place: Path, handler: str, more: tuple[str, ...], words: str
) -> None:
    refused = run(place, handler, *more)
    assert isinstance(refused.exception, SetupError)
    assert words in refused.exception.message
    assert "Order" in (refused.exception.hint or "")


def test_files_that_cannot_be_used_are_named(place: Path) -> None:
    for name, text in (("list.json", "[1]"), ("broken.json", "{")):
        (place / name).write_text(text)
        refused = run(place, "OrderValidationHandler", payload=name)
        assert isinstance(refused.exception, SetupError)
        assert name in refused.exception.message
    (place / "tenant.json").write_text(json.dumps(small(plugin_name="x", plugin_route_prefix="gone")))
    missing = run(place, "OrderValidationHandler")
    assert isinstance(missing.exception, SetupError)
    assert "'gone' is not installed" in missing.exception.message
