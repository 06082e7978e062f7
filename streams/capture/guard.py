"""Refuses bulk statements on tracked models: no event fires for their rows, so the changes would go unnoticed."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import event, inspect
from sqlalchemy.orm import Mapper, ORMExecuteState, Session
from sqlalchemy.sql.selectable import FromClause
from typing_extensions import override

_TRACKED: set[type[Any]] = set()
_TABLES: dict[FromClause, str] = {}


class UntrackedBulkChange(RuntimeError):
    """A bulk statement on a tracked model: its rows would change without any webhook."""

    def __init__(self, model: str, statement: str) -> None:
        super().__init__(
            f"{statement} on {model} changes rows without firing webhooks; change the objects, take "
            "streams.capture.bulk.bulk_update, or write the outbox yourself and add "
            '.execution_options(outbox="handled")'
        )


def track(model: type[Any], table: FromClause) -> None:
    """Guard a model class, with it every class derived from it, and its table."""
    _TRACKED.add(model)
    _TABLES.setdefault(table, model.__name__)


def is_tracked(model: type[Any]) -> bool:
    """Whether a class or one of its bases is guarded."""
    return any(base in _TRACKED for base in model.__mro__)


def tracked_models() -> list[type[Any]]:
    """Every guarded class."""
    return sorted(_TRACKED, key=lambda model: model.__qualname__)


@event.listens_for(Session, "do_orm_execute")
def refuse_bulk_statement(state: ORMExecuteState) -> None:
    """Raise ``UntrackedBulkChange`` for INSERT, UPDATE and DELETE on a tracked model or its table, unless handled."""
    if not (state.is_insert or state.is_update or state.is_delete):
        return
    if state.execution_options.get("outbox") == "handled":
        return
    statement = "INSERT" if state.is_insert else "UPDATE" if state.is_update else "DELETE"
    for mapper in state.all_mappers:
        if is_tracked(mapper.class_):
            raise UntrackedBulkChange(mapper.class_.__name__, statement)
    table = getattr(state.statement, "table", None)
    if table in _TABLES:
        raise UntrackedBulkChange(_TABLES[table], statement)


class TrackedSession(Session):
    """A session whose ``bulk_*`` methods refuse tracked models: SQLAlchemy tells nobody of what they do.

    Use it as ``sessionmaker(class_=TrackedSession)``, or as ``sync_session_class`` of an ``AsyncSession``.
    """

    @override
    def bulk_save_objects(self, objects: Iterable[object], *arguments: Any, **options: Any) -> None:
        """As SQLAlchemy's; raises ``UntrackedBulkChange`` for tracked models."""
        listed = list(objects)
        for each in listed:
            _refuse(type(each), "bulk_save_objects")
        super().bulk_save_objects(listed, *arguments, **options)

    @override
    def bulk_insert_mappings(
        self, mapper: Mapper[Any] | type[Any], mappings: Iterable[dict[str, Any]], *arguments: Any, **options: Any
    ) -> None:
        """As SQLAlchemy's; raises ``UntrackedBulkChange`` for tracked models."""
        _refuse(inspect(mapper).mapper.class_, "bulk_insert_mappings")
        super().bulk_insert_mappings(mapper, mappings, *arguments, **options)

    @override
    def bulk_update_mappings(self, mapper: Mapper[Any] | type[Any], mappings: Iterable[dict[str, Any]]) -> None:
        """As SQLAlchemy's; raises ``UntrackedBulkChange`` for tracked models."""
        _refuse(inspect(mapper).mapper.class_, "bulk_update_mappings")
        super().bulk_update_mappings(mapper, mappings)


def _refuse(model: type[Any], statement: str) -> None:
    if is_tracked(model):
        raise UntrackedBulkChange(model.__name__, statement)
