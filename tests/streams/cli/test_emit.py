"""``webhook emit`` on a real database: accepted into the outbox, or refused with a reason."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from sqlalchemy import Engine, select
from typer.testing import CliRunner, Result

from handlers.tenants.repository import SqlTenantRepository
from projections.migrate import upgrade
from schemas.codec import decode_as
from schemas.events import ModelChanged
from streams.broker.runtime import embedded_database_url
from streams.capture.outbox import OUTBOX
from streams.cli.composition import open_keyring
from streams.cli.emit import emit
from streams.database import create_database_engine
from streams.errors import SetupError
from streams.settings import Settings

ENTRY = {"id": "orders", "models": ["Order"], "events": ["created", "updated"], "webhook_endpoint": "webhook/order"}
DOCUMENT = {"plugin_name": "drukwerkdeal.nl", "plugin_route_prefix": "dwd", "webhook_settings": [ENTRY]}
APP = typer.Typer()
APP.command()(emit)


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


def run(*arguments: str) -> Result:
    return CliRunner().invoke(APP, arguments)


def changes(engine: Engine) -> list[ModelChanged]:
    with engine.connect() as connection:
        return [decode_as(ModelChanged, row) for row in connection.execute(select(OUTBOX.c.payload)).scalars()]


def test_a_change_lies_in_the_outbox_and_the_command_says_what_fires(engine: Engine) -> None:
    outcome = run(
        "shop.models.Order", "updated", "--tenant", "shop.example", "--id", "7", "--id", "a,b",
        "--payload", '{"id": 7}', "--changed", "status", "--previous", '{"status": "new"}', "--priority", "9", "--json",
    )  # fmt: skip

    assert outcome.exit_code == 0, outcome.output
    [change] = changes(engine)
    assert json.loads(outcome.stdout) == {
        "change_id": change.change_id,
        "status": "accepted",
        "fires": [{"settings_entry": "orders", "endpoint": "webhook/order"}],
    }
    assert (change.tenant_id, change.model, change.model_id, change.model_event) == ("1", "Order", "7,a%2Cb", "updated")
    assert (change.payload, change.changed, change.previous) == ('{"id":7}', ["status"], '{"status":"new"}')
    assert (change.priority, change.source[:5]) == (9, "cli: ")
    assert "webhook up" in outcome.stderr


def test_a_change_that_nothing_matches_is_accepted_and_said_to_fire_nothing(engine: Engine) -> None:
    outcome = run("Quotation", "deleted", "--tenant", "1", "--id", "3")

    assert outcome.exit_code == 0
    assert [each.model for each in changes(engine)] == ["Quotation"]
    assert "nothing will fire" in outcome.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("Order", "Created", "--tenant", "1", "--id", "7"), "model_event is 'Created', not one of created"),
        (("Order", "created", "--tenant", "1", "--id", ""), "model_id is empty"),
        (("Order", "created", "--tenant", "none.example", "--id", "7"), "none.example"),
        (("Order", "created", "--tenant", "1", "--id", "7", "--payload", "[1]"), "payload"),
        (("Order", "created", "--tenant", "1", "--id", "7", "--payload", "{"), "payload is no usable JSON"),
        (("Order", "created", "--tenant", "1", "--id", "7", "--previous", "7"), "previous"),
        (("Order", "created", "--tenant", "1", "--id", "7", "--priority", "11"), "priority"),
    ],
)
def test_what_intake_would_refuse_is_refused_at_once(engine: Engine, arguments: tuple[str, ...], said: str) -> None:
    outcome = run(*arguments)

    assert isinstance(outcome.exception, SetupError), outcome.output
    assert said in outcome.exception.message
    assert outcome.exception.exit_code == 2
    assert changes(engine) == []
