"""A program that changes rows of one tracked table in transactions of every kind, until it is killed.

``python -m tests.faults.writer URL TENANT SEED RATE``; what it did only the database knows.
"""

import random
import sys
import time
from typing import Any, Final

from sqlalchemy import BigInteger, Engine, Identity, Integer, create_engine, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.orm.exc import StaleDataError
from typing_extensions import override

from handlers.tenants.current import tenant_context
from streams.capture.bulk import bulk_update
from streams.capture.model import WebhookModel
from streams.sqlite import take_write_lock

APPLICATION: Final = "fault-writer"
TABLE: Final = "fault_parts"

_HOT: Final = 40
_AGAIN_S: Final = 0.2
_SLEEP_S: Final = 0.01


class Base(DeclarativeBase):
    """The writers' own table."""


class Part(WebhookModel, Base):
    """A row whose ``version`` rises with each of its changes, so that their order can be told from them."""

    __tablename__ = TABLE

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), Identity(), primary_key=True)
    version: Mapped[int]

    @override
    def get_webhook_priority(self, event: str) -> int:
        return 9

    @override
    def get_webhook_payload(self) -> dict[str, Any]:
        """For ``tests.faults.plugin``."""
        key = f"part-{self.id}"
        return {"id": self.id, "version": self.version, "key": key, "sequence": self.version, "sleep_s": _SLEEP_S}


def transaction(session: Session, chance: random.Random) -> None:
    """One transaction: a few changes, some in savepoints, committed or rolled back. Raises what the database does."""
    # Where rows cannot be locked: another writer's row would be deleted a second time.
    take_write_lock(session.connection())
    for _ in range(chance.randint(1, 3)):
        _step(session, chance, nested=0)
    if chance.random() < 0.75:
        session.commit()
    else:
        session.rollback()


def _step(session: Session, chance: random.Random, nested: int) -> None:
    if nested < 2 and chance.random() < 0.4:
        savepoint = session.begin_nested()
        for _ in range(chance.randint(1, 2)):
            _step(session, chance, nested + 1)
        if chance.random() < 0.5:
            savepoint.commit()
        else:
            savepoint.rollback()
        return
    _change(session, chance)
    if chance.random() < 0.5:
        session.flush()


def _change(session: Session, chance: random.Random) -> None:
    kind = chance.random()
    hot = session.scalars(select(Part.id).order_by(Part.id.desc()).limit(_HOT)).all()
    if kind < 0.25 or not hot:
        session.add_all(Part(version=1) for _ in range(chance.randint(1, 2)))
        return
    if kind < 0.35:
        some = sorted(chance.sample(hot, min(3, len(hot))))
        bulk_update(session, update(Part).where(Part.id.in_(some)).values(version=Part.version + 1))
        return
    part = session.get(Part, chance.choice(hot), with_for_update=True, populate_existing=True)
    if part is None:
        return
    part.version += 1
    if kind < 0.5:
        # The deleted row's event has a version of its own, though no row ever had it.
        session.delete(part)


def work(engine: Engine, tenant_id: str, chance: random.Random, pause_s: float) -> None:
    """Transaction after transaction, ``pause_s`` from one to the next; whatever the database does, it goes on."""
    with tenant_context(tenant_id), Session(engine) as session:
        following = time.monotonic() + chance.random() * pause_s
        while True:
            time.sleep(max(following - time.monotonic(), 0))
            following = max(following + pause_s, time.monotonic())
            attempt(session, chance)


def attempt(session: Session, chance: random.Random) -> bool:
    """One transaction; whether the database took it. A deadlock, or a row that is gone meanwhile, undoes it."""
    try:
        transaction(session, chance)
    except (DBAPIError, StaleDataError):
        session.close()
        time.sleep(_AGAIN_S)
        return False
    return True


def main() -> None:
    """Run as the command line says."""
    url, tenant_id, seed, rate = sys.argv[1:]
    options = {"application_name": APPLICATION, "connect_timeout": 5}
    engine = create_engine(url, pool_size=1, pool_pre_ping=True, connect_args=options)
    work(engine, tenant_id, random.Random(int(seed)), 1 / float(rate))


if __name__ == "__main__":
    main()
