"""Whatever a session does: committed changes = events, none extra, and each row's in order (R11)."""

from collections import defaultdict
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TypeAlias

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, SessionTransaction, mapped_column

from handlers.tenants.current import tenant_context
from streams.capture.bulk import bulk_update
from streams.capture.model import WebhookModel
from streams.capture.outbox import OUTBOX
from tests.streams.capture.captured import changes, shop_database

KEYS = (1, 2, 3)
Step: TypeAlias = tuple[str, int, int]
Events: TypeAlias = dict[int, list[tuple[str, int]]]


class Base(DeclarativeBase):
    pass


class Row(WebhookModel, Base):
    __tablename__ = "property_rows"

    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int]


@dataclass
class Expected:
    """What the database should hold, and which events: worked out from the values alone."""

    now: dict[int, int] = field(default_factory=dict)
    flushed: dict[int, int] = field(default_factory=dict)
    events: Events = field(default_factory=lambda: defaultdict(list))

    def flush(self) -> None:
        for key in KEYS:
            before, after = self.flushed.get(key), self.now.get(key)
            if before != after:
                event = "created" if before is None else "deleted" if after is None else "updated"
                value = after if after is not None else before
                assert value is not None
                self.events[key].append((event, value))
        self.flushed = dict(self.now)


class Program:
    """Runs steps on a session and on what is expected of it."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.expected = Expected()
        self.committed = Expected()
        self.savepoints: list[tuple[SessionTransaction, Expected]] = []

    def run(self, step: Step) -> None:
        kind, key, value = step
        getattr(self, kind)(key, value)

    def put(self, key: int, value: int) -> None:
        is_new = key not in self.expected.now
        self.expected.now[key] = value
        if is_new:
            self.session.add(Row(id=key, value=value))
            self.flush(key, value)
        else:
            self.session.get_one(Row, key).value = value

    def delete(self, key: int, _value: int) -> None:
        # On both sides: a row that is deleted and put again within one flush is one that was updated.
        self.flush(key, 0)
        if key in self.expected.now:
            self.session.delete(self.session.get_one(Row, key))
            del self.expected.now[key]
        self.flush(key, 0)

    def in_bulk(self, key: int, value: int) -> None:
        self.flush(key, 0)
        bulk_update(self.session, update(Row).where(Row.id <= key).values(value=value))
        self.expected.now.update({each: value for each in self.expected.now if each <= key})
        self.expected.flush()

    def flush(self, _key: int, _value: int) -> None:
        self.session.flush()
        self.expected.flush()

    def savepoint(self, _key: int, _value: int) -> None:
        self.flush(0, 0)
        self.savepoints.append((self.session.begin_nested(), deepcopy(self.expected)))

    def release(self, _key: int, _value: int) -> None:
        if self.savepoints:
            self.expected.flush()
            self.savepoints.pop()[0].commit()

    def roll_back_savepoint(self, _key: int, _value: int) -> None:
        if self.savepoints:
            savepoint, self.expected = self.savepoints.pop()
            savepoint.rollback()

    def commit(self, _key: int, _value: int) -> None:
        self.session.commit()
        self.savepoints.clear()
        self.expected.flush()
        self.committed = deepcopy(self.expected)

    def roll_back(self, _key: int, _value: int) -> None:
        self.session.rollback()
        self.savepoints.clear()
        self.expected = deepcopy(self.committed)


# Three times as likely as what ends a transaction: else nearly every one is short.
_KINDS = ["put", "put", "put", "delete", "in_bulk", "flush", "savepoint", "savepoint", "release"]
_KINDS += ["roll_back_savepoint", "commit", "roll_back"]
STEPS = st.lists(st.tuples(st.sampled_from(_KINDS), st.sampled_from(KEYS), st.integers(0, 2)), min_size=8, max_size=30)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with shop_database(tmp_path_factory.mktemp("property"), Base.metadata) as engine:
        yield engine


@settings(max_examples=100)
@given(steps=STEPS)
def test_committed_changes_are_the_events_none_extra_and_in_order(engine: Engine, steps: list[Step]) -> None:
    with engine.begin() as connection:
        connection.execute(OUTBOX.delete())
        connection.execute(Row.metadata.tables["property_rows"].delete())
    with tenant_context("1"), Session(engine, autoflush=False) as session:
        program = Program(session)
        for step in steps:
            program.run(step)
        program.commit(0, 0)
        rows = {row.id: row.value for row in session.scalars(select(Row))}
    assert rows == program.committed.now
    found: Events = defaultdict(list)
    for change in changes(engine):
        found[int(change.model_id)].append((change.model_event, orjson.loads(change.payload)["value"]))
    assert found == {key: events for key, events in program.committed.events.items() if events}
