import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from handlers.dwd.manifest import PLUGIN
from handlers.registry import PluginRegistry
from handlers.service import PluginService
from handlers.tenants.current import tenant_context
from handlers.tenants.repository import MemoryTenantRepository
from schemas.events import WebhookRequested, now_micros
from schemas.identifiers import new_event_id
from streams.capture.model import WebhookModel
from streams.capture.session_sink import SessionSink
from streams.pytest_plugin import CapturedWebhooks, captured_webhooks
from tests.handlers.examples import small

ROOT = Path(__file__).parents[2]

__all__ = ["captured_webhooks"]


class Base(DeclarativeBase):
    pass


class Order(WebhookModel, Base):
    __tablename__ = "plugin_orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[str] = mapped_column(default="new")


@pytest.fixture
def session() -> Session:
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    return Session(engine)


def request(endpoint: str) -> WebhookRequested:
    return WebhookRequested(
        event_id=new_event_id(),
        tenant_id="1",
        endpoint=endpoint,
        event_type="manual_trigger",
        trigger="service",
        requested_at=now_micros(),
        payload="{}",
    )


def test_changes_count_once_they_are_committed(captured_webhooks: CapturedWebhooks, session: Session) -> None:
    with session, tenant_context("1"):
        session.add(Order(id=1))
        session.flush()
        assert captured_webhooks.changes == []
        savepoint = session.begin_nested()
        session.add(Order(id=2))
        session.flush()
        savepoint.rollback()
        session.commit()
        session.get_one(Order, 1).status = "paid"
        session.commit()
        session.add(Order(id=3))
        session.flush()
        session.rollback()
        assert [(each.model_id, each.model_event) for each in captured_webhooks.changes] == [
            ("1", "created"),
            ("1", "updated"),
        ]
        assert [each.changed for each in captured_webhooks.of("Order", "updated")] == [["status"]]
        assert captured_webhooks.of("Invoice") == []
        captured_webhooks.clear()
        assert captured_webhooks.of("Order") == []
    session.get_bind().dispose()  # type: ignore[union-attr]


def test_triggers_are_captured_with_a_session_and_without(
    captured_webhooks: CapturedWebhooks, session: Session
) -> None:
    with session:
        SessionSink(session).accept(request("webhook/order"))
        session.rollback()
        SessionSink(session).accept(request("webhook/order"))
        assert captured_webhooks.requests == []
        session.commit()
    captured_webhooks.accept(request("webhook/quotation"))
    assert [each.endpoint for each in captured_webhooks.requests] == ["webhook/order", "webhook/quotation"]
    assert len(captured_webhooks.to("webhook/order")) == 1
    session.get_bind().dispose()  # type: ignore[union-attr]


def test_it_is_a_sink_for_the_plugin_service(captured_webhooks: CapturedWebhooks) -> None:
    tenants = MemoryTenantRepository()
    tenants.create("Acme", small())
    service = PluginService(tenants, PluginRegistry({"dwd": PLUGIN}), captured_webhooks)
    result = service.load(1).trigger_webhook("webhook/order", {"id": 7})
    assert [each.event_id for each in captured_webhooks.to("webhook/order")] == [result.event_id]


def test_it_is_declared_and_light(tmp_path: Path) -> None:
    """Every test run where the package is installed loads it: it must not drag Kafka clients along."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"webhook_streams": "streams.pytest_plugin"}
    code = (
        "import sys, streams.pytest_plugin; print(sorted({'sqlalchemy', 'confluent_kafka', 'faust'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
