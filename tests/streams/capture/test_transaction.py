from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from typing_extensions import override

from handlers.tenants.current import current_tenant_id, tenant_context
from streams.capture.model import WebhookModel, listen
from streams.capture.transaction import SavepointLeftOpen, after_commit, before_commit
from tests.streams.capture.captured import shop_database


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "transaction_notes"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


class Cart(WebhookModel, Base):
    """Says so in a note, inside its transaction, as soon as everything of it is there."""

    __tablename__ = "transaction_carts"

    id: Mapped[int] = mapped_column(primary_key=True)
    size: Mapped[int] = mapped_column(default=0)

    @override
    @classmethod
    def register_webhook_listeners(cls) -> None:
        listen(cls, cls.finish_later)

    def finish_later(self, model_event: str, connection: Connection) -> None:
        session = Session.object_session(self)
        assert session is not None
        before_commit(session, self.finish)

    def finish(self, session: Session) -> None:
        session.add(Note(text=f"cart {self.id} of {self.size}"))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with shop_database(tmp_path, Base.metadata) as engine:
        yield engine


def notes(engine: Engine) -> list[str]:
    with Session(engine) as session:
        return list(session.scalars(select(Note.text).order_by(Note.id)))


def noting(text: str) -> Callable[[Session], None]:
    def note(session: Session) -> None:
        session.add(Note(text=text))

    return note


def test_what_is_called_before_the_commit_sees_the_last_flush_and_is_committed_with_it(engine: Engine) -> None:
    with Session(engine) as session:
        cart = Cart(id=1)
        session.add(cart)
        session.flush()
        cart.size = 3
        session.commit()
    assert notes(engine) == ["cart 1 of 3"]


def test_each_transaction_calls_for_itself(engine: Engine) -> None:
    with Session(engine) as session:
        cart = Cart(id=1)
        session.add(cart)
        session.commit()
        session.commit()
        cart.size = 1
        session.commit()
    assert notes(engine) == ["cart 1 of 0", "cart 1 of 1"]


def test_what_it_raises_rolls_everything_back(engine: Engine) -> None:
    def fail(_session: Session) -> None:
        raise ZeroDivisionError

    with Session(engine) as session:
        session.add(Note(text="lost"))
        before_commit(session, fail)
        with pytest.raises(ZeroDivisionError):
            session.commit()
    assert notes(engine) == []


@pytest.mark.parametrize("register", [before_commit, after_commit])
def test_a_savepoint_takes_what_was_given_inside_it_along(
    engine: Engine, register: Callable[[Session, Callable[[Session], None]], None]
) -> None:
    with Session(engine) as session:
        register(session, noting("root"))
        with session.begin_nested():
            register(session, noting("kept"))
            inner = session.begin_nested()
            register(session, noting("gone"))
            inner.rollback()
            with session.begin_nested():
                register(session, noting("kept too"))
        assert notes(engine) == []
        session.commit()
    with Session(engine) as session:
        register(session, noting("rolled back"))
        session.add(Note(text="rolled back"))
        session.flush()
        session.rollback()
        session.commit()
    assert notes(engine) == ["root", "kept", "kept too"]


def test_functions_may_ask_for_further_ones_but_not_without_end(engine: Engine) -> None:
    def again(session: Session) -> None:
        before_commit(session, again)

    with Session(engine) as session:
        before_commit(session, lambda inner: before_commit(inner, noting("second round")))
        session.commit()
        before_commit(session, again)
        with pytest.raises(RuntimeError, match="further ones without end"):
            session.commit()
    assert notes(engine) == ["second round"]


def test_a_savepoint_left_open_is_refused_rather_than_that_a_call_is_lost(engine: Engine) -> None:
    with Session(engine) as session:
        root = session.begin()
        before_commit(session, noting("root"))
        session.begin_nested()
        with pytest.raises(SavepointLeftOpen, match="a savepoint is still open"):
            root.commit()
    with Session(engine) as session:
        before_commit(session, noting("root"))
        session.begin_nested()
        before_commit(session, noting("savepoint"))
        session.commit()
    assert notes(engine) == ["root", "savepoint"]


def test_after_the_commit_a_fresh_session_of_the_same_tenant_sees_what_was_committed(engine: Engine) -> None:
    seen: list[tuple[str, int]] = []

    def look(fresh: Session) -> None:
        assert fresh is not session
        seen.append((current_tenant_id(), fresh.execute(select(func.count()).select_from(Note)).scalar_one()))
        fresh.add(Note(text="afterwards"))

    with Session(engine) as session:
        with tenant_context("7"):
            after_commit(session, look)
        session.add(Note(text="first"))
        session.flush()
        assert seen == []
        session.commit()
        session.commit()
    assert seen == [("7", 1)]
    assert notes(engine) == ["first", "afterwards"]


def test_one_that_raises_after_the_commit_keeps_no_other_from_its_call(engine: Engine) -> None:
    def fail(_fresh: Session) -> None:
        raise ZeroDivisionError

    with Session(engine) as session:
        session.add(Note(text="committed"))
        after_commit(session, fail)
        after_commit(session, noting("called"))
        with pytest.raises(ZeroDivisionError):
            session.commit()
    assert notes(engine) == ["committed", "called"]


async def test_an_asynchronous_session_calls_both(engine: Engine) -> None:
    asynchronous = create_async_engine(f"sqlite+aiosqlite:///{engine.url.database}")
    async with AsyncSession(asynchronous) as session:
        before_commit(session.sync_session, noting("inside"))
        after_commit(session.sync_session, noting("afterwards"))
        await session.commit()
    await asynchronous.dispose()
    assert notes(engine) == ["inside", "afterwards"]
