"""``Idempotency-Key``: what was accepted under a key is accepted once, and answered as it was the first time.

A key is kept in the transaction that stores what it stands for, so there is never one without the other.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from aiohttp import web
from sqlalchemy import Column, Connection, Engine, Index, MetaData, String, Table, Text, delete, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite

from handlers.service import Accepted
from handlers.tenants.tokens import Token
from projections.tables import UtcDateTime
from schemas.events import WebhookRequested
from streams.capture.outbox import OutboxSink
from streams.web.problems import Problem

HEADER: Final = "Idempotency-Key"
KEPT: Final = timedelta(hours=24)
_PRUNED_AFTER: Final = KEPT + timedelta(hours=1)
"""Later than a key may be taken anew: clocks differ, and who finds a key has to be able to read it."""
LONGEST_KEY: Final = 255

METADATA: Final = MetaData()

KEYS: Final = Table(
    "webhook_idempotency_keys",
    METADATA,
    Column("owner", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("fingerprint", String, nullable=False),
    Column("answer", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)
"""What was accepted under a key. ``owner`` says whose it is, ``fingerprint`` is a hash of what was sent."""
Index("ix_webhook_idempotency_keys_created_at", KEYS.c.created_at)


@dataclass(frozen=True, slots=True, order=True)
class ClaimedKey:
    """A key that somebody sent, and a hash of what was sent with it."""

    owner: str
    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """What is kept under a key: the first answer, and the hash of what was sent for it."""

    fingerprint: str
    answer: str


def claimed_key(request: web.Request, token: Token, body: bytes) -> ClaimedKey | None:
    """The request's key, the token's own; ``None`` without one. Raises ``Problem`` 400."""
    text = request.headers.get(HEADER)
    if text is None:
        return None
    if not (0 < len(text) <= LONGEST_KEY and text.isascii() and text.isprintable()):
        raise Problem(400, "bad_header", f"{HEADER} must be 1 to {LONGEST_KEY} printable ASCII characters")
    return ClaimedKey(f"token|{token.id}", text, fingerprint(request.path_qs.encode(), body))


class ClaimingSink:
    """An ``EventSink`` that stores a request under a key, where there is one: once."""

    def __init__(self, sink: OutboxSink, key: ClaimedKey | None) -> None:
        self._sink = sink
        self._key = key

    def accept(self, request: WebhookRequested) -> Accepted:
        """See ``EventSink``; gives the first event's id where the key is known. Raises ``Problem`` 409."""
        key = self._key
        if key is None:
            return self._sink.accept(request)
        return self._sink.accept(request, lambda connection, event_id: claim(connection, key, event_id))


def fingerprint(*parts: bytes) -> str:
    """A hash of what was sent."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()


def claim(connection: Connection, key: ClaimedKey, answer: str) -> str:
    """Keep an answer under a key, in the caller's transaction; gives what is kept: this one, or the first.

    Waits for a transaction that is just claiming the same key. Raises ``Problem`` 409 for a key that was sent with
    something else.
    """
    first = claim_all(connection, {key: answer}).get(key)
    if first is None:
        return answer
    if first.fingerprint != key.fingerprint:
        raise key_reused(f"this {HEADER}")
    return first.answer


def key_reused(what: str) -> Problem:
    """The refusal of a key that was sent with something else."""
    return Problem(409, "key_reused", f"{what} was sent before with another content; give each request its own")


def claim_all(connection: Connection, answers: Mapping[ClaimedKey, str]) -> dict[ClaimedKey, KeptAnswer]:
    """Keep answers under keys, no two of one owner and name; gives those that were kept before, with what is kept."""
    if not answers:
        return {}
    now = datetime.now(UTC)
    # In their order, or two batches would wait for each other.
    rows = [
        {"owner": each.owner, "key": each.key, "fingerprint": each.fingerprint, "answer": answer, "created_at": now}
        for each, answer in sorted(answers.items())
    ]
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    insert = dialect.insert(KEYS).values(rows)
    renewed = insert.on_conflict_do_update(
        index_elements=[KEYS.c.owner, KEYS.c.key],
        set_={name: insert.excluded[name] for name in ("fingerprint", "answer", "created_at")},
        where=KEYS.c.created_at < now - KEPT,
    ).returning(KEYS.c.owner, KEYS.c.key)
    new = {(row.owner, row.key) for row in connection.execute(renewed)}
    known = [each for each in answers if (each.owner, each.key) not in new]
    if not known:
        return {}
    wanted = tuple_(KEYS.c.owner, KEYS.c.key).in_([(each.owner, each.key) for each in known])
    found = {
        (row.owner, row.key): KeptAnswer(row.fingerprint, row.answer)
        for row in connection.execute(select(KEYS).where(wanted))
    }
    return {each: found[each.owner, each.key] for each in known}


def prune(engine: Engine) -> int:
    """Forget keys that are kept long enough; gives how many. Blocks."""
    with engine.begin() as connection:
        return connection.execute(delete(KEYS).where(KEYS.c.created_at < datetime.now(UTC) - _PRUNED_AFTER)).rowcount
