"""What is logged of a task where somebody looks for what is wrong."""

import json
import logging
from collections.abc import Iterator

import pytest

from handlers.redaction import REDACTED, Redactor
from handlers.results import Completed, Returned
from schemas.events import TaskReady
from streams.agents.debug_record import tells, told
from streams.logs import configure_logs
from streams.settings import Settings
from tests.streams.engine.workload import task_ready


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


async def test_it_names_tenant_endpoint_and_queue_and_shows_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    async def run(task: TaskReady) -> Returned:
        return Completed({"id": task.event_id})

    configure_logs(Settings(log_level="debug", log_format="json"))
    assert tells()
    payload = json.dumps({"id": 7, "password": "canary-1", "note": "uses canary-2"})
    result = await told(run, "Order", Redactor(["canary-2"]), "database")(task_ready("e", payload=payload))
    assert result == Completed({"id": "e"})
    shown = capsys.readouterr().err
    logged = json.loads(shown)
    assert {name: logged[name] for name in ("tenant_id", "endpoint", "queue_connection", "payload")} == {
        "tenant_id": "1",
        "endpoint": "webhook/order",
        "queue_connection": "database",
        "payload": {"id": 7, "password": REDACTED, "note": f"uses {REDACTED}"},
    }
    assert "canary" not in shown


def test_at_the_usual_level_nothing_is_wrapped() -> None:
    configure_logs(Settings(log_level="info"))
    assert not tells()
