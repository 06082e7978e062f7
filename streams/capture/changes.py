"""What the changes of a flush become: one outbox row each, written together in the transaction of the change."""

import base64
import enum
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any, Final, NamedTuple, TypeAlias

import orjson
from sqlalchemy import Connection, event
from sqlalchemy.orm import Session

from schemas.events import Micros, ModelChanged, now_micros
from streams.capture.outbox import OutboxRow, append, change_row
from streams.settings import Settings
from topics.catalogue import Catalogue

Write: TypeAlias = Callable[[Session, Connection, Sequence[OutboxRow]], None]
"""Takes rows in a session's transaction, of which ``Connection`` is that to the rows' database."""

_PENDING: Final = "webhook_pending"
_JSON_OPTIONS: Final = orjson.OPT_NON_STR_KEYS
_disabled: ContextVar[bool] = ContextVar("webhooks_disabled", default=False)


def _append(_session: Session, connection: Connection, rows: Sequence[OutboxRow]) -> None:
    append(connection, rows)


@dataclass(slots=True)
class _Configuration:
    catalogue: Catalogue | None = None
    source: str = ""
    write: Write = _append


_configuration = _Configuration()


def configure_capture(catalogue: Catalogue | None, source: str = "") -> Catalogue | None:
    """Say which topics changes go to, and name the program that writes them (``ModelChanged.source``).

    Call once, before the first flush. Without it the topics are those of the environment (``WEBHOOK_TOPIC_PREFIX``).
    Gives the catalogue that held before, ``None`` for the environment's.
    """
    before = _configuration.catalogue
    _configuration.catalogue, _configuration.source = catalogue, source
    return before


def capture_catalogue() -> Catalogue:
    """The topics that hold now."""
    return _configuration.catalogue or _environment_catalogue()


@cache
def _environment_catalogue() -> Catalogue:
    return Settings().catalogue()


@contextmanager
def written_by(write: Write) -> Iterator[None]:
    """Rows of every session go to ``write`` instead of the outbox, as long as the block lasts: for tests."""
    before, _configuration.write = _configuration.write, write
    try:
        yield
    finally:
        _configuration.write = before


@contextmanager
def webhooks_disabled() -> Iterator[None]:
    """Changes flushed inside the block, by this task or thread, fire nothing. Flush before it ends."""
    token = _disabled.set(True)
    try:
        yield
    finally:
        _disabled.reset(token)


def is_disabled() -> bool:
    """Whether this task or thread is inside ``webhooks_disabled``."""
    return _disabled.get()


class Change(NamedTuple):
    """One row's change. ``values`` are the attributes after it, before it for ``deleted``.

    ``model_id`` is the text that ``model_key_text`` makes; ``previous`` the old values of what changed.
    """

    tenant_id: str
    model: str
    model_id: str
    model_event: str
    values: Mapping[str, Any]
    previous: Mapping[str, Any]
    priority: int | None


def collect(session: Session, connection: Connection, change: Change) -> None:
    """Keep a change for the end of the session's flush. Raises ``TypeError`` for a value that has no JSON form."""
    row = _row(change)
    pending: dict[Connection, list[OutboxRow]] | None = session.info.get(_PENDING)
    if pending is None:
        pending = session.info[_PENDING] = {}
    if connection in pending:
        pending[connection].append(row)
    else:
        pending[connection] = [row]


def write_rows(session: Session, connection: Connection, rows: Sequence[OutboxRow]) -> None:
    """Write rows in a session's transaction."""
    _configuration.write(session, connection, rows)


@event.listens_for(Session, "before_flush")
def _forget_failed_flush(session: Session, _context: object, _instances: object) -> None:
    session.info.pop(_PENDING, None)


@event.listens_for(Session, "after_flush")
def _write_collected(session: Session, _context: object) -> None:
    write_collected(session)


def write_collected(session: Session) -> None:
    """Write what was collected: one statement for each connection."""
    pending: dict[Connection, list[OutboxRow]] | None = session.info.pop(_PENDING, None)
    if pending:
        for connection, rows in pending.items():
            write_rows(session, connection, rows)


def _row(change: Change) -> OutboxRow:
    tenant_id, model, model_id, model_event, values, previous, priority = change
    now = now_micros()
    event = ModelChanged(
        change_id=_new_change_id(now),
        tenant_id=tenant_id,
        model=model,
        model_id=model_id,
        model_event=model_event,
        occurred_at=now,
        payload=_json(model, values),
        changed=list(previous),
        previous=_json(model, previous) if previous else None,
        priority=None if priority is None else min(max(int(priority), 1), 10),
        source=_configuration.source,
    )
    return change_row(event, capture_catalogue().changes)


def _new_change_id(now: Micros) -> str:
    """A UUIDv7 as text: rows written together lie together in the outbox's index of ids.

    It takes a third of the time of ``uuid.UUID``.
    """
    time, random = f"{now // 1000:012x}", os.urandom(10).hex()
    variant = "89ab"[int(random[3], 16) & 3]
    return f"{time[:8]}-{time[8:]}-7{random[:3]}-{variant}{random[4:7]}-{random[7:19]}"


def _json(model: str, values: Mapping[str, Any]) -> str:
    try:
        return orjson.dumps(values, default=_plain, option=_JSON_OPTIONS).decode()
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
