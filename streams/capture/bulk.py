"""An UPDATE of many rows that announces each of them."""

from typing import Any, Final

from sqlalchemy import Update, inspect, select, tuple_
from sqlalchemy.orm import Mapper, Session

from streams.capture.attributes import changed_values, values_before
from streams.capture.changes import write_collected
from streams.capture.guard import is_tracked
from streams.capture.model import tell
from streams.sqlite import take_write_lock

_ROWS: Final = 500


def bulk_update(session: Session, statement: Update) -> int:
    """Run an UPDATE of a tracked model, with the changes of its rows announced in the same transaction.

    The rows are locked and read first, then updated and read again, 500 at a time; each whose values really changed
    fires as if its object had been flushed. Gives the number of rows that matched. For an ``AsyncSession``:
    ``await session.run_sync(bulk_update, statement)``. Raises ``TypeError`` where it is no
    UPDATE of a tracked model, and ``ValueError`` where it changes a primary key.
    """
    mapper = _mapper(statement)
    session.flush()
    connection = session.connection(bind_arguments={"mapper": mapper})
    # It has no FOR UPDATE: rows could be changed or gone between being read and being updated.
    take_write_lock(connection)
    key = tuple_(*mapper.primary_key)
    where = statement.whereclause
    matching = select(*mapper.primary_key).order_by(*mapper.primary_key).with_for_update()
    keys = [tuple(row) for row in session.execute(matching if where is None else matching.where(where))]
    for start in range(0, len(keys), _ROWS):
        some = keys[start : start + _ROWS]
        rows = (select(mapper.class_).where(key.in_(some)).order_by(*mapper.primary_key)).execution_options(
            populate_existing=True
        )
        targets = list(session.scalars(rows))
        before = [values_before(inspect(target).mapper, inspect(target)) for target in targets]
        session.execute(
            statement.where(key.in_(some)),
            execution_options={"outbox": "handled", "synchronize_session": False},
        )
        if len(session.scalars(rows).all()) < len(targets):
            raise ValueError(
                f"bulk_update cannot change the primary key of {mapper.class_.__name__}: change the objects"
            )
        for target, old in zip(targets, before, strict=True):
            state: Any = inspect(target)
            tell(state.mapper, connection, state, "updated", changed_values(old, state))
        write_collected(session)
    return len(keys)


def _mapper(statement: Update) -> Mapper[Any]:
    entity = statement.entity_description.get("entity") if statement.is_update else None
    if entity is None or not is_tracked(entity):
        raise TypeError("bulk_update takes an UPDATE of a tracked model: update(Order).where(...).values(...)")
    mapper: Mapper[Any] = inspect(entity)
    return mapper
