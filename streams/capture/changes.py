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
from typing import Any, Final, TypeAlias

import orjson
from sqlalchemy import Connection, event
from sqlalchemy.orm import Session

from schemas.events import ModelChanged, now_micros
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


@dataclass(frozen=True, slots=True)
class Change:
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
    pending: dict[Connection, list[OutboxRow]] = session.info.setdefault(_PENDING, {})
    pending.setdefault(connection, []).append(_row(change))


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
    previous = change.previous
    event = ModelChanged(
        change_id=_new_change_id(),
        tenant_id=change.tenant_id,
        model=change.model,
        model_id=change.model_id,
        model_event=change.model_event,
        occurred_at=now_micros(),
        payload=_json(change.model, change.values),
        changed=list(previous),
        previous=_json(change.model, previous) if previous else None,
        priority=None if change.priority is None else min(max(int(change.priority), 1), 10),
        source=_configuration.source,
    )
    return change_row(event, capture_catalogue().changes)


def _new_change_id() -> str:
    """A random UUID (version 4) as text, in less than half the time that ``uuid.uuid4`` takes."""
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


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
