"""Whoever has written a model and not ended the transaction waits for no outcome (REQUIREMENTS C2)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from handlers.contract import PluginManifest
from handlers.registry import PluginRegistry
from handlers.results import Completed
from handlers.service import LoadedPlugin, Outcome, PluginService
from handlers.tenants.current import tenant_context
from handlers.tenants.repository import MemoryTenantRepository
from handlers.transactions import inside_model_transaction
from streams.capture.model import WebhookModel
from streams.capture.outbox import METADATA, OutboxSink
from streams.capture.transaction import after_commit
from streams.database import create_database_engine
from streams.settings import Settings


class Base(DeclarativeBase):
    """The base of the models below."""


class Tracked(WebhookModel, Base):
    __tablename__ = "tracked"
    id: Mapped[int] = mapped_column(primary_key=True)


class Untracked(Base):
    __tablename__ = "untracked"
    id: Mapped[int] = mapped_column(primary_key=True)


class OrderWebhookHandler:
    async def handle(self, payload: dict[str, Any], context: object) -> Completed:
        return Completed({})


class Done:
    """Every event has ended."""

    def outcome(self, event_id: str) -> Outcome | None:
        return Outcome("completed", None, None)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_database_engine(f"sqlite:///{tmp_path / 'shop.db'}")
    METADATA.create_all(engine)
    Base.metadata.create_all(engine)
    with tenant_context("1"):
        yield engine
    engine.dispose()


@pytest.fixture
def plugin(tmp_path: Path, settings: Settings) -> Iterator[LoadedPlugin]:
    engine = create_database_engine(f"sqlite:///{tmp_path / 'system.db'}")
    METADATA.create_all(engine)
    tenants = MemoryTenantRepository()
    entry = {"webhook_endpoint": "webhook/order", "queue_mode": "foreground"}
    tenants.create("one", {"plugin_name": "shop", "plugin_route_prefix": "shop", "webhook_settings": [entry]}, [])
    manifest = PluginManifest(id="shop", version="1.0.0", handlers={"OrderWebhookHandler": OrderWebhookHandler})
    sink = OutboxSink(engine, settings.catalogue())
    yield PluginService(tenants, PluginRegistry({"shop": manifest}), sink, outcomes=Done()).load(1)
    engine.dispose()


def test_inside_the_foreground_is_refused_and_an_entry_does_not_wait(engine: Engine, plugin: LoadedPlugin) -> None:
    with Session(engine) as session:
        session.add(Tracked(id=1))
        session.flush()
        refused = plugin.trigger_webhook("webhook/order", {}, run_async=False)
        by_entry = plugin.trigger_webhook("webhook/order", {})
        session.commit()
        outside = plugin.trigger_webhook("webhook/order", {}, run_async=False)

    assert (bool(refused), refused.code) == (False, "inside_transaction")
    assert "after the commit" in (refused.reason or "")
    assert (bool(by_entry), by_entry.outcome) == (True, None)
    assert outside.outcome is not None


def test_it_begins_with_the_flush_and_ends_with_the_transaction(engine: Engine) -> None:
    seen = []
    with Session(engine) as session:
        session.add(Untracked(id=1))
        session.flush()
        assert not inside_model_transaction()
        with session.begin_nested():
            session.add(Tracked(id=1))
            session.flush()
            assert inside_model_transaction()
        assert inside_model_transaction()
        after_commit(session, lambda _: seen.append(inside_model_transaction()))
        session.commit()
        assert not inside_model_transaction()
        session.add(Tracked(id=2))
        session.flush()
        assert inside_model_transaction()
        session.rollback()
        assert not inside_model_transaction()
    assert seen == [False]


def test_a_session_that_is_forgotten_keeps_nobody_out(engine: Engine) -> None:
    session = Session(engine)
    session.add(Tracked(id=1))
    session.flush()
    session.close()
    assert not inside_model_transaction()


def test_a_listener_that_is_told_of_the_change_is_inside(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def should_trigger(_self: Tracked, _event: str) -> bool:
        seen.append(inside_model_transaction())
        return False

    monkeypatch.setattr(Tracked, "should_trigger_webhook", should_trigger)
    with Session(engine) as session, session.begin():
        session.add(Tracked(id=1))
    assert seen == [True]


async def test_an_asynchronous_session_is_noticed_too(engine: Engine, tmp_path: Path) -> None:
    asynchronous = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'shop.db'}")
    async with AsyncSession(asynchronous) as session:
        session.add(Tracked(id=1))
        await session.flush()
        assert inside_model_transaction()
        await session.commit()
        assert not inside_model_transaction()
    await asynchronous.dispose()
