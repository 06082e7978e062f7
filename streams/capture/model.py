"""The mixin that makes a mapped model's changes webhooks: written to the outbox in the model's own transaction.

The mapper's ``after_insert``, ``after_update`` and ``after_delete`` collect a flush's changes, each called once for
a row that was really written; ``after_flush`` writes them on the same connection, so that a rollback, also one to a
savepoint, leaves nothing. (Session commit hooks would not do: they also fire when a savepoint is released.)
"""

import base64
import enum
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any, ClassVar, Final
from uuid import uuid4

import orjson
from sqlalchemy import Connection, event, inspect
from sqlalchemy.orm import Mapper, Session, object_session

from handlers.tenants.current import current_tenant_id
from schemas.codec import encode
from schemas.events import ModelChanged, now_micros
from streams.capture.guard import track
from streams.capture.outbox import OutboxRow, append
from streams.settings import Settings
from topics.catalogue import Catalogue
from topics.keys import model_key_text, partition_key

_CHANGES: Final = "webhook_changes"
_PENDING: Final = "webhook_pending"
_disabled: ContextVar[bool] = ContextVar("webhooks_disabled", default=False)


@dataclass(slots=True)
class _Configuration:
    catalogue: Catalogue | None = None
    source: str = ""


_configuration = _Configuration()


def configure_capture(catalogue: Catalogue, source: str = "") -> None:
    """Say which topics changes go to, and name the program that writes them (``ModelChanged.source``).

    Call once, before the first flush. Without it the topics are those of the environment (``WEBHOOK_TOPIC_PREFIX``).
    """
    _configuration.catalogue, _configuration.source = catalogue, source


@cache
def _environment_catalogue() -> Catalogue:
    return Settings().catalogue()


@contextmanager
def webhooks_disabled() -> Iterator[None]:
    """Changes flushed inside the block, by this task or thread, fire nothing. Flush before it ends."""
    token = _disabled.set(True)
    try:
        yield
    finally:
        _disabled.reset(token)


class WebhookModel:
    """Mixin of a declarative model. Put it first: ``class Order(WebhookModel, Base)``.

    ``__webhook_name__`` is the registered name, the class's own where it is ``None``. ``__webhook_soft_delete__``
    names the attribute whose change from ``None`` means ``deleted``, and back to ``None`` means ``restored``.
    A flush outside any tenant raises ``NoCurrentTenant``, unless ``get_webhook_tenant`` is overridden.
    """

    __webhook_name__: ClassVar[str | None] = None
    __webhook_soft_delete__: ClassVar[str] = "deleted_at"

    def get_webhook_priority(self, event: str) -> int | None:
        """Priority of ``created``, ``updated``, ``deleted`` or ``restored``; clamped to 1..10, ``None``: no wish."""
        return None

    def should_trigger_webhook(self, event: str) -> bool:
        """Whether this change fires at all. ``was_changed`` and ``get_previous`` speak of this very change."""
        return True

    def get_webhook_tenant(self) -> str:
        """Id of the tenant that the row belongs to. Raises ``NoCurrentTenant`` outside any tenant."""
        return current_tenant_id(f"a change of {type(self).__name__}")

    def get_webhook_payload(self) -> dict[str, Any]:
        """What the handlers get: every column attribute by name, without deferred ones that were not loaded."""
        state: Any = inspect(self)
        keys: list[str] = inspect(type(self)).column_attrs.keys()
        # A new row has NULL where nothing was ever set.
        return {key: state.dict.get(key) for key in keys if key in state.dict or not state.has_identity}

    def was_changed(self, *names: str) -> bool:
        """Whether the last flush that wrote this row changed any of these attributes; without names, any at all.

        A row that was just created or deleted has changed nothing.
        """
        previous = self.get_previous()
        return any(name in previous for name in names) if names else bool(previous)

    def get_previous(self) -> dict[str, Any]:
        """Values before the last flush that wrote this row, of the attributes that it changed."""
        previous: dict[str, Any] = inspect(self).info.get(_CHANGES, {})
        return dict(previous)


@event.listens_for(WebhookModel, "instrument_class", propagate=True)
def _prepare_mapper(mapper: Mapper[Any], model: type[Any]) -> None:
    track(model)
    # Values that the database makes are read back at once: the payload has to hold them.
    mapper.eager_defaults = True


@event.listens_for(WebhookModel, "before_mapper_configured", propagate=True)
def _keep_old_values(mapper: Mapper[Any], _model: type[Any]) -> None:
    for attribute in mapper.column_attrs:
        # Else an attribute that is set while it is expired has no old value.
        attribute.active_history = True


@event.listens_for(WebhookModel, "before_update", propagate=True)
@event.listens_for(WebhookModel, "before_delete", propagate=True)
def _load_expired(mapper: Mapper[Any], _connection: Connection, target: WebhookModel) -> None:
    state: Any = inspect(target)
    for key in state.expired_attributes & set(mapper.column_attrs.keys()):
        getattr(target, key)


@event.listens_for(WebhookModel, "after_insert", propagate=True)
def _after_insert(mapper: Mapper[Any], connection: Connection, target: WebhookModel) -> None:
    _set_previous(target, {})
    _collect(mapper, connection, target, "created")


@event.listens_for(WebhookModel, "after_update", propagate=True)
def _after_update(mapper: Mapper[Any], connection: Connection, target: WebhookModel) -> None:
    previous = _old_values(mapper, target)
    _set_previous(target, previous)
    if not previous:
        return
    name = target.__webhook_soft_delete__
    model_event = "updated"
    if name in previous:
        model_event = _soft_delete_event(previous[name], getattr(target, name))
    _collect(mapper, connection, target, model_event)


def _soft_delete_event(before: object, after: object) -> str:
    if before is None:
        return "deleted"
    return "restored" if after is None else "updated"


@event.listens_for(WebhookModel, "after_delete", propagate=True)
def _after_delete(mapper: Mapper[Any], connection: Connection, target: WebhookModel) -> None:
    _set_previous(target, {})
    _collect(mapper, connection, target, "deleted")


def _set_previous(target: WebhookModel, previous: dict[str, Any]) -> None:
    inspect(target).info[_CHANGES] = previous


def _old_values(mapper: Mapper[Any], target: WebhookModel) -> dict[str, Any]:
    """Old values of the attributes whose value really is another one now."""
    state: Any = inspect(target)
    previous = {}
    for attribute in mapper.column_attrs:
        history = state.attrs[attribute.key].history
        if history.added and (not history.deleted or history.deleted[0] != history.added[0]):
            previous[attribute.key] = history.deleted[0] if history.deleted else None
    return previous


def _collect(mapper: Mapper[Any], connection: Connection, target: WebhookModel, model_event: str) -> None:
    session = object_session(target)
    if session is None or _disabled.get() or not target.should_trigger_webhook(model_event):
        return
    pending: dict[Connection, list[OutboxRow]] = session.info.setdefault(_PENDING, {})
    pending.setdefault(connection, []).append(_row(mapper, target, model_event))


def _row(mapper: Mapper[Any], target: WebhookModel, model_event: str) -> OutboxRow:
    tenant_id = str(target.get_webhook_tenant())
    model = type(target).__webhook_name__ or type(target).__name__
    priority = target.get_webhook_priority(model_event)
    previous = target.get_previous()
    change = ModelChanged(
        change_id=str(uuid4()),
        tenant_id=tenant_id,
        model=model,
        model_id=model_key_text(*mapper.primary_key_from_instance(target)),
        model_event=model_event,
        occurred_at=now_micros(),
        payload=_json(model, target.get_webhook_payload()),
        changed=list(previous),
        previous=_json(model, previous) if previous else None,
        priority=None if priority is None else min(max(int(priority), 1), 10),
        source=_configuration.source,
    )
    catalogue = _configuration.catalogue or _environment_catalogue()
    return OutboxRow(
        topic=catalogue.changes,
        record_key=partition_key(tenant_id, model, change.model_id, change.change_id),
        payload=encode(change),
        record_type="ModelChanged",
        headers=None,
        tenant_id=tenant_id,
        record_id=change.change_id,
    )


@event.listens_for(Session, "before_flush")
def _forget_failed_flush(session: Session, _context: object, _instances: object) -> None:
    session.info.pop(_PENDING, None)


@event.listens_for(Session, "after_flush")
def _write_outbox(session: Session, _context: object) -> None:
    pending: dict[Connection, list[OutboxRow]] = session.info.pop(_PENDING, {})
    for connection, rows in pending.items():
        append(connection, rows)


def _json(model: str, values: Mapping[str, Any]) -> str:
    try:
        return orjson.dumps(values, default=_plain, option=orjson.OPT_NON_STR_KEYS).decode()
    except orjson.JSONEncodeError as error:
        raise TypeError(
            f"an attribute of {model} cannot be written as JSON ({error}); override get_webhook_payload"
        ) from error


def _plain(value: object) -> object:
    """Values that JSON lacks: exact decimals as text, bytes as base64, sets as sorted lists."""
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(bytes(value)).decode()
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    if isinstance(value, enum.Enum):
        return value.value
    raise TypeError(f"{type(value).__name__} is no JSON type")
