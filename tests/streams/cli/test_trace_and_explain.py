"""``webhook trace`` and ``webhook explain`` on a real database."""

from collections.abc import Iterator

import json5
import pytest
from sqlalchemy import Engine, func, insert, select
from typer.testing import CliRunner

from handlers.tenants.repository import SqlTenantRepository
from projections.tables import WEBHOOK_CHANGES
from streams.broker.runtime import embedded_database_url
from streams.capture.outbox import OUTBOX
from streams.cli.composition import open_keyring
from streams.cli.main import app
from streams.database import create_database_engine
from streams.errors import SetupError
from streams.settings import Settings
from tests.handlers.examples import SEED_TEXT
from tests.projections.test_waiting import START
from tests.streams.cli.commands import Commands, commands_of


@pytest.fixture
def commands(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Commands]:
    with commands_of(settings, monkeypatch) as found:
        yield found


@pytest.fixture
def engine(commands: Commands, settings: Settings) -> Iterator[Engine]:
    engine = create_database_engine(embedded_database_url(settings.data_dir))
    yield engine
    engine.dispose()


def test_a_story_is_a_table_or_json_and_what_is_unknown_says_where_else_to_look(
    commands: Commands, engine: Engine
) -> None:
    with engine.begin() as connection:
        times = {"occurred_at": START, "matched_at": START}
        row = {"change_id": "c1", "tenant_id": "7", "model": "Order", "model_id": "12", "model_event": "updated"}
        connection.execute(insert(WEBHOOK_CHANGES).values(**row, **times, events="[]"))
    assert "matched no setting: nothing fires" in commands.run("trace", "Order/12", "--tenant", "7")
    assert [each["what"] for each in commands.json("trace", "c1")] == ["changed", "matched"]
    with pytest.raises(SetupError, match="Nothing is known of Order/13") as caught:
        commands.run("trace", "Order/13")
    assert "dead-letters" in caught.value.hint


def test_what_would_fire_is_told_and_nothing_is_sent(commands: Commands, engine: Engine, settings: Settings) -> None:
    document = json5.loads(SEED_TEXT)
    SqlTenantRepository(engine, open_keyring(settings)).create("shop", document, ["shop.example"])
    told = commands.run("explain", "--tenant", "shop.example", "--model", "Order", "--event", "updated")
    assert "webhook/order" in told
    assert "OrderWebhookHandler" in told
    [one] = (each for each in commands.json("explain", "--tenant", "1", "--model", "Order") if each["fires"])
    assert (one["priority"], one["priority_why"]) == (7, "the entry's")
    assert commands.json("explain", "webhook/order", "--tenant", "1", "--priority", "9")[0]["tier"] == "webhook-high"
    nothing = CliRunner().invoke(app, ["explain", "--tenant", "1", "--model", "Invoice"])
    assert (nothing.exit_code, "Nothing would fire" in nothing.output) == (1, True)
    for wrong in (
        (),
        ("webhook/order", "--model", "Order"),
        ("webhook/nothing",),
        ("webhook/order", "--priority", "0"),
    ):
        with pytest.raises(SetupError):
            commands.run("explain", "--tenant", "1", *wrong)
    with pytest.raises(SetupError, match="refused"):
        commands.run("explain", "webhook/order", "--tenant", "99")
    with engine.connect() as connection:
        assert connection.execute(select(func.count()).select_from(OUTBOX)).scalar_one() == 0
