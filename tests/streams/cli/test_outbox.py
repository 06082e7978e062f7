"""``webhook outbox parked``: over the system's database and a tenant's, on SQLite."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, select, update
from typer.testing import CliRunner, Result

from projections.migrate import upgrade
from streams.capture.outbox import OUTBOX, append
from streams.cli.main import app
from streams.database import create_database_engine
from streams.errors import SetupError
from tests.streams.capture.relay_support import change_row, waiting
from topics.catalogue import build_catalogue


@pytest.fixture
def engines(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Engine]]:
    """The system's database with rows 1-0 to 1-3, and a shop's with 2-0 to 2-3; the last two of each are set aside."""
    shop = f"sqlite:///{place / 'shop.db'}"
    upgrade(shop, ("outbox",))
    monkeypatch.setenv("WEBHOOK_OUTBOX_DATABASE_URLS", shop)
    made = [create_database_engine(url) for url in (f"sqlite:///{place / 'system.db'}", shop)]
    catalogue = build_catalogue()
    for name, engine in zip(("1", "2"), made, strict=True):
        with engine.begin() as connection:
            append(connection, [change_row(catalogue, name, number) for number in range(4)])
            parked = {"parked_at": datetime.now(UTC), "parked_reason": "too\x1b large"}
            connection.execute(update(OUTBOX).where(OUTBOX.c.id > 2).values(parked))
    yield made
    for engine in made:
        engine.dispose()


def parked(*arguments: str) -> Result:
    outcome = CliRunner().invoke(app, ["outbox", "parked", *arguments])
    if isinstance(outcome.exception, SetupError):
        raise outcome.exception
    return outcome


def status() -> tuple[int, list[dict[str, object]]]:
    outcome = CliRunner().invoke(app, ["outbox", "status", "--json"])
    return outcome.exit_code, json.loads(outcome.stdout)


def ids(*arguments: str) -> list[str]:
    return [row["record_id"] for row in json.loads(parked("list", *arguments, "--json").stdout)]


def test_what_is_set_aside_is_listed_of_every_database(engines: list[Engine]) -> None:
    assert ids() == ["1-3", "1-2", "2-3", "2-2"]
    assert ids("--limit", "1") == ["1-3", "2-3"]
    assert ids("--tenant", "7") == []
    [row, *_] = json.loads(parked("list", "--json").stdout)
    assert (row["record_key"], row["record_type"], row["tenant_id"]) == ("1|Order|1", "ModelChanged", "1")
    assert row["source"].endswith("system.db")
    assert "\x1b" not in parked("list").output


def test_rows_are_put_back_or_dropped_and_only_those_that_are_set_aside(engines: list[Engine]) -> None:
    system, shop = engines
    assert "would be put back" in parked("retry", "--all", "--dry-run").output
    assert len(ids()) == 4
    assert parked("retry", "2-3").output == "1 of 1 put back.\n"
    assert (waiting(system), waiting(shop)) == (2, 3)
    # 1-0 waits to be published and is nobody's to drop.
    outcome = parked("drop", "1-0", "1-2", "--json")
    assert outcome.exit_code == 1
    assert json.loads(outcome.stdout) == {"chosen": ["1-2"], "missing": ["1-0"], "done": 1, "dry_run": False}
    assert ids() == ["1-3", "2-2"]
    assert "2 of 2 dropped" in parked("drop", "--tenant", "1").output
    for engine, left in ((system, ["1-0", "1-1"]), (shop, ["2-0", "2-1", "2-3"])):
        with engine.connect() as connection:
            assert list(connection.execute(select(OUTBOX.c.record_id).order_by(OUTBOX.c.id)).scalars()) == left


def test_the_status_tells_what_waits_and_fails_while_something_is_set_aside(engines: list[Engine]) -> None:
    code, rows = status()
    assert (code, [(row["waiting"], row["parked"], row["slices_held"]) for row in rows]) == (1, [(2, 2, None)] * 2)
    assert all(str(row["waiting_since"]).endswith("Z") and row["parked_since"] for row in rows)
    parked("drop", "--all")
    code, rows = status()
    assert (code, [(row["waiting"], row["parked"], row["parked_since"]) for row in rows]) == (0, [(2, 0, None)] * 2)


@pytest.mark.parametrize("command", ["retry", "drop"])
def test_nothing_named_is_refused(engines: list[Engine], command: str) -> None:
    with pytest.raises(SetupError, match="No row is named"):
        parked(command)
    assert len(ids()) == 4
