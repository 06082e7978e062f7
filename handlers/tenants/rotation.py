"""Brings every stored value under the active key, while everything else goes on."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from sqlalchemy import Column, Engine, Text, column, func, literal, select, update, values

from handlers.tenants.encryption import DecryptionError, Keyring, value_prefix
from handlers.tenants.inbound_sources import secret_binding
from handlers.tenants.repository import CONFIGURE, reachable
from handlers.tenants.tables import INBOUND_SOURCES, WEBSITES

BATCH: Final = 1000
"""Rows written in one transaction. Whoever configures one of them waits for so many."""

Report = Callable[[int, int], None]
"""Called with the number of rows done and to be done."""


@dataclass(slots=True)
class Rotation:
    """What a rotation did. ``faults``: why values could not be brought under the active key, by tenant id.

    A source's fault stands under its tenant's id and its own: ``1, inbound source 3``.
    """

    rewritten: int = 0
    faults: dict[str, str] = field(default_factory=dict)


class _Row(Protocol):
    """A stored value: ``tenant`` and ``id`` say whose, ``token_hash`` which source's."""

    @property
    def id(self) -> int: ...
    @property
    def tenant(self) -> int: ...
    @property
    def token_hash(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class _Stored:
    """A column of encrypted values, the key of its rows, and whose they are."""

    value: Column[str]
    id: Column[int]
    tenant: Column[int]
    token_hash: Column[str] | None = None

    def binding(self, row: _Row) -> str:
        """What the row's value is bound to beside its tenant."""
        return CONFIGURE if row.token_hash is None else secret_binding(row.token_hash)

    def owner(self, row: _Row) -> str:
        """Whose the row is, in words."""
        return str(row.tenant) if row.token_hash is None else f"{row.tenant}, inbound source {row.id}"


_SOURCES: Final = INBOUND_SOURCES.c
_STORED: Final = (
    _Stored(WEBSITES.c.configure, WEBSITES.c.id, WEBSITES.c.id),
    _Stored(_SOURCES.secret, _SOURCES.id, _SOURCES.website_id, _SOURCES.token_hash),
    _Stored(_SOURCES.former_secret, _SOURCES.id, _SOURCES.website_id, _SOURCES.token_hash),
)
"""Everything that the keyring encrypts: what is left out here is lost with the key that it was encrypted with."""


def count_by_key(engine: Engine, key_ids: tuple[str, ...]) -> dict[str | None, int]:
    """Number of stored values of each key, and under ``None`` of those that no key here reads.

    Raises ``TenantsUnavailable``.
    """
    counts: dict[str | None, int] = dict.fromkeys(key_ids, 0)
    total = 0
    with reachable(), engine.connect() as connection:
        for stored in _STORED:
            counted = select(func.count()).where(stored.value.is_not(None))
            total += connection.execute(counted).scalar_one()
            for key_id in key_ids:
                chosen = stored.value.startswith(value_prefix(key_id), autoescape=True)
                counts[key_id] += connection.execute(counted.where(chosen)).scalar_one()
    counts[None] = max(0, total - sum(counts.values()))
    return counts


def rotate(engine: Engine, keyring: Keyring, report: Report, batch: int = BATCH) -> Rotation:
    """Bring every value under the keyring's active key; ``batch`` rows at a time, by id.

    What it has done stays done: stopped and started again it goes on with the rest. A configuration that changes
    meanwhile is never overwritten: a row is written only where it still holds what was read. Raises
    ``TenantsUnavailable``.
    """
    done = Rotation()
    active = keyring.active
    total = sum(number for key_id, number in count_by_key(engine, keyring.ids).items() if key_id != active)
    report(0, total)
    while True:
        before = done.rewritten, len(done.faults)
        passes = [
            _Pass(engine, keyring, each, done).run(lambda: report(done.rewritten, total), batch) for each in _STORED
        ]
        # Another process may have written under the former key behind the place where this pass was.
        if all(passes) and (done.rewritten, len(done.faults)) == before:
            return done


@dataclass(frozen=True, slots=True)
class _Pass:
    """One way through all rows of a column."""

    engine: Engine
    keyring: Keyring
    stored: _Stored
    done: Rotation

    def run(self, report: Callable[[], None], batch: int) -> bool:
        """Bring every row under the active key. ``False`` where one changed under our hands."""
        stored, done = self.stored, self.done
        after, complete = 0, True
        old = stored.value.is_not(None) & ~stored.value.startswith(value_prefix(self.keyring.active), autoescape=True)
        bound = literal(None) if stored.token_hash is None else stored.token_hash
        columns = stored.id.label("id"), stored.tenant.label("tenant"), stored.value.label("value")
        found = select(*columns, bound.label("token_hash")).where(old).order_by(stored.id).limit(batch)
        while True:
            with reachable(), self.engine.connect() as connection:
                rows = connection.execute(found.where(stored.id > after)).all()
            if not rows:
                return complete
            fresh: list[tuple[int, str, str]] = []
            for row in rows:
                try:
                    fresh.append(
                        (row.id, row.value, self.keyring.rewrap(row.value, str(row.tenant), stored.binding(row)))
                    )
                    done.faults.pop(stored.owner(row), None)
                except DecryptionError as error:
                    done.faults[stored.owner(row)] = str(error)
            if fresh:
                written = _write(self.engine, stored, fresh)
                done.rewritten += written
                complete = complete and written == len(fresh)
            report()
            after = rows[-1].id


def _write(engine: Engine, stored: _Stored, rows: list[tuple[int, str, str]]) -> int:
    """Replace values that are still what was read, in the order of their ids; the number of rows written."""
    fresh = (
        values(column("id", stored.id.type), column("old", Text), column("new", Text), name="fresh")
        .data(rows)
        .cte("fresh")
    )
    # `updated_at` stays: the configuration is the same, and nobody needs to read it again.
    statement = (
        update(stored.value.table)
        .values({stored.value: fresh.c.new})
        .where(stored.id == fresh.c.id, stored.value == fresh.c.old)
        .returning(stored.id)
    )
    with reachable(), engine.begin() as connection:
        return len(connection.execute(statement).all())
