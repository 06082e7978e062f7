"""How far the log has been projected, kept in the same transaction as the rows it was projected into (R19, R20)."""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, Connection, Table, and_, bindparam, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite

from projections.records import Positions
from projections.tables import PROJECTION, PROJECTION_POSITIONS

_TABLE = PROJECTION_POSITIONS


class EpochChanged(Exception):
    """The log was replaced by another one: whoever projects the former one must stop."""


class PositionBeyondLog(Exception):
    """The log ends before, or begins after, the position that was reached: it is not the log that was projected."""


def lock(connection: Connection, epoch: str, partitions: Iterable[tuple[str, int]]) -> Positions:
    """Lock the positions of some partitions for this transaction, and give them.

    Partitions without a position get one at 0. Raises ``EpochChanged`` where another epoch has been claimed since.
    """
    wanted = sorted(partitions)
    # SQLite has no row locks: there, only a statement that writes takes the lock, and reading has to come after it.
    found = {} if connection.dialect.name == "sqlite" else _locked(connection, wanted)
    missing = [each for each in wanted if each not in found]
    if missing:
        _create(connection, epoch, missing)
        found = _locked(connection, wanted)
    for (topic, partition), (known, _) in found.items():
        if known != epoch:
            raise EpochChanged(
                f"{topic}[{partition}] is projected from log {known}, this process reads log {epoch}; "
                "stop it, another projector has taken over"
            )
    return {each: offset for each, (_, offset) in found.items()}


def claim(connection: Connection, epoch: str, partitions: Iterable[tuple[str, int]]) -> Positions:
    """Take over partitions under an epoch, and give where to read from.

    Positions of another epoch are set back to 0: offsets mean nothing in another log (R20).
    """
    wanted = sorted(partitions)
    _create(connection, epoch, wanted)
    found = _locked(connection, wanted)
    stale = [each for each, (known, _) in found.items() if known != epoch]
    if stale:
        connection.execute(
            _TABLE.update().where(_is("projection", "topic", "partition")).values(epoch=epoch, next_offset=0),
            [_named(each) for each in stale],
        )
    return {each: 0 if known != epoch else offset for each, (known, offset) in found.items()}


def store(connection: Connection, epoch: str, positions: Mapping[tuple[str, int], int]) -> None:
    """Move positions on. They must have been locked in this transaction."""
    insert = _insert(connection)(_TABLE).values(_rows(positions, epoch))
    moved = insert.on_conflict_do_update(
        index_elements=list(_TABLE.primary_key),
        set_={"next_offset": insert.excluded.next_offset, "updated_at": insert.excluded.updated_at},
    )
    connection.execute(moved)


def read(connection: Connection, epoch: str | None = None) -> Positions:
    """All positions, or those of one epoch, without locking them."""
    query = select(_TABLE.c.topic, _TABLE.c.partition, _TABLE.c.next_offset).where(_TABLE.c.projection == PROJECTION)
    if epoch is not None:
        query = query.where(_TABLE.c.epoch == epoch)
    return {(topic, partition): offset for topic, partition, offset in connection.execute(query)}


def _is(*names: str) -> ColumnElement[bool]:
    return and_(*(_TABLE.c[name] == bindparam(f"key_{name}") for name in names))


def _named(each: tuple[str, int]) -> dict[str, object]:
    return {"key_projection": PROJECTION, "key_topic": each[0], "key_partition": each[1]}


def _locked(connection: Connection, wanted: list[tuple[str, int]]) -> dict[tuple[str, int], tuple[str, int]]:
    query = (
        select(_TABLE.c.topic, _TABLE.c.partition, _TABLE.c.epoch, _TABLE.c.next_offset)
        .where(_TABLE.c.projection == PROJECTION, tuple_(_TABLE.c.topic, _TABLE.c.partition).in_(wanted))
        .order_by(_TABLE.c.topic, _TABLE.c.partition)
        .with_for_update()
    )
    return {(topic, partition): (epoch, offset) for topic, partition, epoch, offset in connection.execute(query)}


def _create(connection: Connection, epoch: str, partitions: list[tuple[str, int]]) -> None:
    rows = _rows(dict.fromkeys(partitions, 0), epoch)
    connection.execute(_insert(connection)(_TABLE).values(rows).on_conflict_do_nothing())


def _insert(connection: Connection) -> Callable[[Table], postgresql.Insert | sqlite.Insert]:
    return postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert


def _rows(positions: Mapping[tuple[str, int], int], epoch: str) -> list[dict[str, object]]:
    now = datetime.now(UTC)
    return [
        {
            "projection": PROJECTION,
            "topic": topic,
            "partition": partition,
            "epoch": epoch,
            "next_offset": offset,
            "updated_at": now,
        }
        for (topic, partition), offset in sorted(positions.items())
    ]
