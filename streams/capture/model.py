"""The mixin that makes a mapped model's changes webhooks: written to the outbox in the model's own transaction.

The mapper's ``after_insert``, ``after_update`` and ``after_delete`` collect a flush's changes, each called once for
a row that was really written; ``after_flush`` writes them on the same connection, so that a rollback, also one to a
savepoint, leaves nothing. (Session commit hooks would not do: they also fire when a savepoint is released.)

A row that several flushes of a transaction write changes several times, and each of them is an event.
"""

from collections.abc import Callable, Collection
from typing import Any, ClassVar, Final, TypeAlias

from sqlalchemy import Connection, event
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.attributes import instance_dict, instance_state

from handlers.tenants.current import current_tenant_id
from streams.capture.attributes import changed_values, columns, load_whole, makes_values, values_before
from streams.capture.changes import Change, collect, configure_capture, is_disabled, webhooks_disabled
from streams.capture.guard import track
from streams.capture.writing import note_writing
from topics.keys import model_key_text

__all__ = ["Listener", "WebhookModel", "announce", "configure_capture", "listen", "webhooks_disabled"]

_BEFORE: Final = "webhook_before"
_CHANGES: Final = "webhook_changes"


class WebhookModel:
    """Mixin of a declarative model. Put it first: ``class Order(WebhookModel, Base)``.

    ``__webhook_name__`` is the registered name, the class's own where it is ``None``; a class that inherits a mapping
    inherits the name too. ``__webhook_watch__`` names the attributes whose change is an ``updated``, ``None``: each of
    them. ``__webhook_soft_delete__`` names the attribute whose change from ``None`` means ``deleted``, and back to
    ``None`` means ``restored``. A flush outside any tenant raises ``NoCurrentTenant``, unless ``get_webhook_tenant``
    is overridden.
    """

    __webhook_name__: ClassVar[str | None] = None
    __webhook_watch__: ClassVar[Collection[str] | None] = None
    __webhook_soft_delete__: ClassVar[str] = "deleted_at"

    @classmethod
    def register_webhook_listeners(cls) -> None:
        """Say what hears of this class's changes; called once, when it is mapped.

        Override it, without ``super()``, to announce nothing by itself and ``listen`` with functions of your own.
        """
        listen(cls, announce)

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
        state: Any = instance_state(self)
        values = instance_dict(self)
        names = columns(state.mapper).all
        if state.key is None:
            # A new row has NULL where nothing was ever set.
            return {name: values.get(name) for name in names}
        return {name: values[name] for name in names if name in values}

    def was_changed(self, *names: str) -> bool:
        """Whether the last flush that wrote this row changed any of these attributes; without names, any at all.

        A row that was just created or deleted has changed nothing.
        """
        previous = self.get_previous()
        return any(name in previous for name in names) if names else bool(previous)

    def get_previous(self) -> dict[str, Any]:
        """Values before the last flush that wrote this row, of the attributes that it changed.

        ``None`` also where the old value is not known, as that of a container that was changed in place.
        """
        state: Any = instance_state(self)
        return dict(state.info.get(_CHANGES, {}))


Listener: TypeAlias = Callable[[Any, str, Connection], None]
"""Called with the row, ``created``, ``updated``, ``deleted`` or ``restored``, and the connection of its flush."""

_listeners: dict[type[Any], list[Listener]] = {}


def listen(model: type[WebhookModel], listener: Listener) -> None:
    """Call ``listener`` inside the flush for each row of this very class that was really written.

    It may read the row and register with ``before_commit`` and ``after_commit``; it must not flush. What it raises
    fails the flush.
    """
    _listeners.setdefault(model, []).append(listener)


def announce(target: WebhookModel, model_event: str, connection: Connection) -> None:
    """Write the change to the outbox: what a model does unless it overrides ``register_webhook_listeners``."""
    state: Any = instance_state(target)
    if is_disabled() or not target.should_trigger_webhook(model_event):
        return
    values = instance_dict(target)
    model = type(target).__webhook_name__ or type(target).__name__
    change = Change(
        tenant_id=str(target.get_webhook_tenant()),
        model=model,
        model_id=model_key_text(*[values[name] for name in columns(state.mapper).key]),
        model_event=model_event,
        values=target.get_webhook_payload(),
        previous=state.info.get(_CHANGES, {}),
        priority=target.get_webhook_priority(model_event),
    )
    collect(state.session, connection, change)


def tell(mapper: Mapper[Any], connection: Connection, state: Any, model_event: str, previous: dict[str, Any]) -> None:
    """A row was written: remember its old values, and let those hear of it who listen.

    An ``updated`` without old values, or of none that is watched, is told to nobody.
    """
    state.info[_CHANGES] = previous
    note_writing(state.session)
    target = state.obj()
    if model_event == "updated":
        if not previous:
            return
        model_event = _update_event(target, previous)
        watched = target.__webhook_watch__
        if model_event == "updated" and watched is not None and previous.keys().isdisjoint(watched):
            return
    for listener in _listeners.get(mapper.class_, ()):
        listener(target, model_event, connection)


def _update_event(target: WebhookModel, previous: dict[str, Any]) -> str:
    """``updated``, or what the attribute for soft deletion makes of it."""
    name = target.__webhook_soft_delete__
    if name not in previous:
        return "updated"
    if previous[name] is None:
        return "deleted"
    return "restored" if getattr(target, name) is None else "updated"


@event.listens_for(WebhookModel, "instrument_class", propagate=True)
def _prepare_mapper(mapper: Mapper[Any], model: type[WebhookModel]) -> None:
    track(model, mapper.local_table)
    model.register_webhook_listeners()


@event.listens_for(WebhookModel, "before_mapper_configured", propagate=True)
def _keep_values(mapper: Mapper[Any], model: type[WebhookModel]) -> None:
    if makes_values(mapper):
        # What the database makes is read back at once: the payload has to hold it. (Asked for in vain, it costs each
        # row that is written a look at all of its attributes.)
        mapper.base_mapper.eager_defaults = True
    for attribute in mapper.column_attrs:
        # Else an attribute that is set while it is expired has no old value.
        attribute.active_history = True
    mapped = {attribute.key for attribute in mapper.column_attrs}
    unknown = sorted({*(model.__webhook_watch__ or ())} - mapped)
    if unknown:
        raise ValueError(
            f"__webhook_watch__ of {model.__name__} names {', '.join(unknown)}, which it does not map; "
            f"its attributes are {', '.join(sorted(mapped))}"
        )


@event.listens_for(WebhookModel, "before_update", propagate=True, raw=True)
def _before_update(mapper: Mapper[Any], _connection: Connection, state: Any) -> None:
    load_whole(mapper, state)
    # Not taken from the attributes' history afterwards: where the database works a value out, there is none.
    state.info[_BEFORE] = values_before(mapper, state)


@event.listens_for(WebhookModel, "before_delete", propagate=True, raw=True)
def _before_delete(mapper: Mapper[Any], _connection: Connection, state: Any) -> None:
    load_whole(mapper, state)


@event.listens_for(WebhookModel, "after_insert", propagate=True, raw=True)
def _after_insert(mapper: Mapper[Any], connection: Connection, state: Any) -> None:
    load_whole(mapper, state)
    tell(mapper, connection, state, "created", {})


@event.listens_for(WebhookModel, "after_update", propagate=True, raw=True)
def _after_update(mapper: Mapper[Any], connection: Connection, state: Any) -> None:
    load_whole(mapper, state)
    tell(mapper, connection, state, "updated", changed_values(state.info.pop(_BEFORE), state))


@event.listens_for(WebhookModel, "after_delete", propagate=True, raw=True)
def _after_delete(mapper: Mapper[Any], connection: Connection, state: Any) -> None:
    tell(mapper, connection, state, "deleted", {})
