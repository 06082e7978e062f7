"""Call-backs in a house of one process that dies by kill -9: nobody waits for ever, no handler runs again (R22)."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine, select

from handlers.call_backs import call_back_request
from projections.tables import WEBHOOK_EVENTS
from schemas.events import WebhookRequested, now_micros
from schemas.identifiers import new_event_id
from streams.capture.outbox import OUTBOX, OutboxSink
from tests.support import journal
from tests.support.house import House
from tests.support.load import CONFIGURATION, ENDPOINT, Journal
from tests.support.roles import install_journal
from tests.support.waiting import eventually
from topics.catalogue import build_catalogue

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(400)]


def outcomes(engine: Engine) -> dict[str, tuple[str, str | None]]:
    """Kind and result of each event, by what it waits for."""
    columns = [WEBHOOK_EVENTS.c[name] for name in ("payload", "kind", "result")]
    with engine.connect() as connection:
        rows = connection.execute(select(*columns)).all()
    return {orjson.loads(row.payload)["wait_for"]: (row.kind, row.result) for row in rows}


def ask(engine: Engine, payload: dict[str, Any]) -> None:
    """Ask for an event of tenant 1, once it is durable."""
    request = WebhookRequested(
        event_id=new_event_id(),
        tenant_id="1",
        endpoint=ENDPOINT,
        event_type="webhook_journal",
        trigger="manual",
        requested_at=now_micros(),
        payload=orjson.dumps(payload).decode(),
    )
    OutboxSink(engine, build_catalogue()).accept(request)


def call(engine: Engine, key: str, number: int) -> None:
    """Call back, once it is durable."""
    OutboxSink(engine, build_catalogue()).accept(call_back_request("1", key, {"call": number}, "vendor"))


def test_kill_9_while_events_wait(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.environment[journal.JOURNAL] = str(tmp_path / "journal")
    install_journal(house.beside)
    file = tmp_path / "tenant.json"
    file.write_bytes(orjson.dumps(CONFIGURATION))

    def webhook(*arguments: str) -> None:
        done = house.webhook(*arguments)
        assert done.returncode == 0, done.stderr

    with house.up(kill=True) as engine:
        webhook("tenants", "create", "Calls", "--config", str(file))
        call(engine, "early", 1)
        for number, (name, timeout_s) in enumerate({"early": 3600, "down": 3600, "late": 3600, "never": 10}.items()):
            ask(engine, {"sequence": number, "key": number, "sleep_s": 0, "wait_for": name, "timeout_s": timeout_s})
        waiting = dict.fromkeys(("down", "late"), "waiting")
        expected = {"early": "completed", **waiting}
        # On a slow machine ten seconds may have gone by before the others got here.
        eventually(lambda: _kinds(engine) in ({**expected, "never": kind} for kind in ("waiting", "timed_out")), 90)
    # Nothing runs; it is durable all the same.
    webhook("call-back", "down", "--tenant", "1", "--payload", '{"call":2}')
    with house.up(kill=True) as engine:
        call(engine, "down", 3)
        call(engine, "late", 4)
    with house.up() as engine:
        ended = {
            "early": ("completed", '{"call":1}'),
            "down": ("completed", '{"call":2}'),
            "late": ("completed", '{"call":4}'),
            "never": ("timed_out", None),
        }
        eventually(lambda: outcomes(engine) == ended, 90)
        eventually(lambda: _outbox(engine) == [], 60, "no start has to look at them again")
    assert len(Journal(tmp_path / "journal").read().starts) == 4


def _kinds(engine: Engine) -> dict[str, str]:
    return {name: kind for name, (kind, _) in outcomes(engine).items()}


def _outbox(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.execute(select(OUTBOX.c.record_id)).scalars())
