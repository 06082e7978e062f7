"""``webhook trigger`` on a real database: accepted, refused, and followed to its end."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer
from sqlalchemy import Engine, insert, select
from typer.testing import CliRunner, Result

from handlers.tenants.repository import SqlTenantRepository
from projections.migrate import upgrade
from projections.tables import WEBHOOK_EVENTS
from schemas.codec import decode_as
from schemas.events import WebhookRequested
from streams.broker.runtime import embedded_database_url
from streams.capture.outbox import OUTBOX
from streams.cli.composition import open_keyring
from streams.cli.trigger import trigger
from streams.database import create_database_engine
from streams.errors import SetupError
from streams.settings import Settings

DOCUMENT = {"plugin_name": "drukwerkdeal.nl", "plugin_route_prefix": "dwd", "webhook_settings": []}
APP = typer.Typer()
APP.command()(trigger)


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """The database of an embedded installation that does not run now, with tenant 1."""
    monkeypatch.setenv("WEBHOOK_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("WEBHOOK_DATABASE_URL", raising=False)
    monkeypatch.delenv("WEBHOOK_BOOTSTRAP_SERVERS", raising=False)
    opened = create_database_engine(embedded_database_url(tmp_path))
    upgrade(opened)
    SqlTenantRepository(opened, open_keyring(Settings())).create("shop", DOCUMENT, ["shop.example"])
    yield opened
    opened.dispose()


def run(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(APP, ["webhook/order", *arguments], input=stdin)


def refusal(*arguments: str) -> SetupError:
    """What the command's entry would print."""
    outcome = run(*arguments)
    assert isinstance(outcome.exception, SetupError), outcome.output
    return outcome.exception


def requests(engine: Engine) -> list[WebhookRequested]:
    with engine.connect() as connection:
        return [decode_as(WebhookRequested, row) for row in connection.execute(select(OUTBOX.c.payload)).scalars()]


def test_an_accepted_trigger_lies_in_the_outbox(engine: Engine) -> None:
    outcome = run("--tenant", "1", "--payload", '{"id": 7}', "--priority", "9", "--delay", "5", "--json")

    [request] = requests(engine)
    assert outcome.exit_code == 0
    assert json.loads(outcome.stdout) == {"event_id": request.event_id, "status": "accepted"}
    assert (request.priority, request.delay_s, request.payload, request.trigger) == (9, 5, '{"id":7}', "cli")
    assert "webhook up" in outcome.stderr


def test_the_payload_comes_from_a_file_or_from_standard_input(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "order.json").write_text('{"id": 1}')

    assert run("--tenant", "shop.example", "--payload", f"@{tmp_path / 'order.json'}").exit_code == 0
    assert run("--tenant", "1", "--payload", "@-", stdin='{"id": 2}').exit_code == 0
    assert [each.payload for each in requests(engine)] == ['{"id":1}', '{"id":2}']


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--tenant", "9"], "tenant"),
        (["--tenant", "nobody.example"], "nobody.example"),
        (["--tenant", "1", "--payload", "[1]"], "object"),
        (["--tenant", "1", "--payload", "{"], "JSON"),
        (["--tenant", "1", "--payload", "@/does/not/exist"], "/does/not/exist"),
        (["--tenant", "1", "--payload", json.dumps({"text": "x" * 300_000})], "262144"),
        (["--tenant", "1", "--priority", "11"], "priority"),
        (["--tenant", "1", "--priority", "0"], "priority"),
        (["--tenant", "1", "--delay", "-1"], "delay"),
    ],
)
def test_what_is_refused_says_why_and_leaves_nothing(engine: Engine, arguments: list[str], said: str) -> None:
    error = refusal(*arguments)

    assert said in error.message
    assert error.exit_code == 2
    assert error.hint
    assert requests(engine) == []


def test_an_endpoint_without_handler_is_refused(engine: Engine) -> None:
    outcome = CliRunner().invoke(APP, ["webhook/none", "--tenant", "1"])

    assert isinstance(outcome.exception, SetupError)
    assert "NoneWebhookHandler" in outcome.exception.message


def test_without_a_database_it_says_what_to_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOK_DATA_DIR", str(tmp_path / "empty"))
    monkeypatch.delenv("WEBHOOK_DATABASE_URL", raising=False)

    assert "webhook up" in refusal("--tenant", "1").hint


def test_a_database_that_is_not_migrated_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOK_DATABASE_URL", f"sqlite:///{tmp_path / 'new.db'}")

    assert "webhook migrate" in refusal("--tenant", "1").hint


def test_waiting_in_vain_shows_pending_and_fails(engine: Engine) -> None:
    outcome = run("--tenant", "1", "--wait", "--timeout", "0", "--json")

    assert outcome.exit_code == 1
    assert json.loads(outcome.stdout)["status"] == "pending"


@pytest.mark.parametrize(
    ("kind", "status", "exit_code"), [("completed", "completed", 0), ("rejected", "failed_permanently", 1)]
)
def test_waiting_shows_the_outcome(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, kind: str, status: str, exit_code: int
) -> None:
    def carry_out(*_: object) -> None:
        """What the rest of the house does meanwhile."""
        [request] = requests(engine)
        at = datetime.now(UTC)
        row: dict[str, Any] = {
            "accepted_at": at,
            "event_id": request.event_id,
            "tenant_id": "1",
            "tier": "webhook-high",
            "endpoint": "webhook/order",
            "status": status,
            "kind": kind,
            "kind_rank": 10,
            "run": 1,
            "step": 0,
            "attempt": 1,
            "dispatch_seq": 1,
            "handler": "OrderWebhookHandler",
            "started_at": at,
            "finished_at": at,
            "updated_at": at,
        }
        with engine.begin() as connection:
            connection.execute(insert(WEBHOOK_EVENTS), [row])

    monkeypatch.setattr("time.sleep", carry_out)
    outcome = run("--tenant", "1", "--priority", "9", "--wait")

    assert outcome.exit_code == exit_code
    for text in ("webhook-high", "OrderWebhookHandler", kind, "duration"):
        assert text in outcome.stdout
