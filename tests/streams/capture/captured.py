"""An outbox to write changes to, and what stands in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, MetaData, select

from schemas.codec import decode_as
from schemas.events import ModelChanged
from streams.capture.outbox import METADATA, OUTBOX
from streams.database import create_database_engine


@contextmanager
def shop_database(directory: Path, metadata: MetaData) -> Iterator[Engine]:
    """A SQLite database with these tables and an outbox."""
    engine = create_database_engine(f"sqlite:///{directory}/shop.db")
    metadata.create_all(engine)
    METADATA.create_all(engine)
    yield engine
    engine.dispose()


def changes(engine: Engine) -> list[ModelChanged]:
    """The outbox's changes, in their order."""
    with engine.connect() as connection:
        rows = connection.execute(select(OUTBOX.c.payload).order_by(OUTBOX.c.id)).scalars().all()
    return [decode_as(ModelChanged, row) for row in rows]


def kinds(engine: Engine) -> list[tuple[str, str, str]]:
    """Model, id and event of each change."""
    return [(each.model, each.model_id, each.model_event) for each in changes(engine)]
