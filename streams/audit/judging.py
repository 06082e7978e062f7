"""The judge, pure: of each transaction, the rows it changed against the outbox rows it wrote."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple, TypeAlias

from streams.audit.pgoutput import Begin, Commit, Message, RowChange
from streams.audit.subjects import TrackedTable

OUTBOX_TABLE: Final = "webhook_outbox"
_CHANGE: Final = "ModelChanged"
_SHOWN: Final = 100

Row: TypeAlias = tuple[str, str]
"""Group and ``model_id`` of a row."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A row with fewer or more events than changes in one transaction, which ``xid`` and the time of its commit name.

    ``key`` is the row's ``model_id``; empty where a whole table was emptied.
    """

    kind: str
    xid: int
    committed_at: datetime
    tables: str
    key: str
    operations: tuple[str, ...]
    changes: int
    events: int


@dataclass(slots=True)
class Count:
    """Sums of tables that share models. ``missing``: changes without an event, ``extra``: events without a change."""

    tables: str
    models: str
    changes: int = 0
    events: int = 0
    missing: int = 0
    extra: int = 0


class _Written(NamedTuple):
    """What one transaction did to a row, or to a whole table: changes by table, and what they were."""

    by_table: Counter[str]
    operations: list[str]


@dataclass(slots=True)
class _Transaction:
    begin: Begin
    rows: dict[Row, _Written] = field(default_factory=dict)
    changes: Counter[Row] = field(default_factory=Counter)
    requests: Counter[Row] = field(default_factory=Counter)

    def note(self, row: Row, table: str, operation: str) -> None:
        written = self.rows.setdefault(row, _Written(Counter(), []))
        written.by_table[table] += 1
        written.operations.append(operation)


class Judge:
    """Takes messages in their order and keeps sums; memory is that of the largest transaction's rows.

    Tables that share a model belong together: of one that inherits its mapping a flush may write a row in each, and
    announces it once.
    """

    def __init__(self, tables: Sequence[TrackedTable], outbox_schema: str = "public") -> None:
        self.transactions = 0
        self.findings: list[Finding] = []
        self._outbox = (outbox_schema, OUTBOX_TABLE)
        self._tables = {(table.schema, table.name): table for table in tables}
        self._groups: dict[str, Count] = {}
        self._group_of_table: dict[tuple[str, str], str] = {}
        self._group_of_model: dict[str, str] = {}
        for members in _groups(tables):
            name = ", ".join(map(str, members))
            models = sorted({model for table in members for model in table.models})
            self._groups[name] = Count(name, ", ".join(models))
            self._group_of_table |= {(table.schema, table.name): name for table in members}
            self._group_of_model |= dict.fromkeys(models, name)
        self._open: _Transaction | None = None

    @property
    def counts(self) -> list[Count]:
        """The sums, by table."""
        return [self._groups[name] for name in sorted(self._groups)]

    @property
    def missing(self) -> int:
        """Changes without an event, of all tables."""
        return sum(count.missing for count in self._groups.values())

    @property
    def extra(self) -> int:
        """Events without a change, of all tables."""
        return sum(count.extra for count in self._groups.values())

    def take(self, message: Message) -> None:
        """One more message."""
        if isinstance(message, Begin):
            self._open = _Transaction(message)
        elif self._open is not None:
            if isinstance(message, Commit):
                self._close(self._open)
                self._open = None
            else:
                self._note(self._open, message)

    def _note(self, transaction: _Transaction, change: RowChange) -> None:
        place = (change.schema, change.table)
        if place == self._outbox:
            self._note_event(transaction, change)
            return
        table = self._tables.get(place)
        if table is None or not _is_real(change):
            return
        key = "" if change.operation == "truncate" else table.row_key(change.new or change.old)
        transaction.note((self._group_of_table[place], key), str(table), change.operation)

    def _note_event(self, transaction: _Transaction, row: RowChange) -> None:
        named = _model_and_id(row.new.get("record_key") or "") if row.operation == "insert" else None
        group = self._group_of_model.get(named[0]) if named else None
        if named is None or group is None:
            return
        # A request that names the row announces it too: that is what a custom flow writes.
        counter = transaction.changes if row.new.get("record_type") == _CHANGE else transaction.requests
        counter[group, named[1]] += 1

    def _close(self, transaction: _Transaction) -> None:
        self.transactions += 1
        for row in sorted(transaction.rows.keys() | transaction.changes.keys()):
            self._judge(transaction, row)

    def _judge(self, transaction: _Transaction, row: Row) -> None:
        group, key = row
        count = self._groups[group]
        written = transaction.rows.get(row)
        most = written.by_table.total() if written else 0
        least = max(written.by_table.values()) if written else 0
        changes, announced = transaction.changes[row], transaction.changes[row] + transaction.requests[row]
        count.changes += least
        count.events += changes
        missing, extra = max(least - announced, 0), max(changes - most, 0)
        count.missing += missing
        count.extra += extra
        if (missing or extra) and len(self.findings) < _SHOWN:
            operations = tuple(written.operations) if written else ()
            kind = "missing" if missing else "extra"
            begin = transaction.begin
            self.findings.append(Finding(kind, begin.xid, begin.committed_at, group, key, operations, least, announced))


def _is_real(change: RowChange) -> bool:
    """Whether an UPDATE changed anything; only a table with ``REPLICA IDENTITY FULL`` tells."""
    if change.operation != "update" or not change.is_old_whole:
        return True
    return any(change.old.get(column) != value for column, value in change.new.items())


def _groups(tables: Iterable[TrackedTable]) -> list[list[TrackedTable]]:
    """Tables that share models, directly or by others."""
    groups: list[tuple[set[str], list[TrackedTable]]] = []
    for table in tables:
        models, members = set(table.models), [table]
        apart = []
        for other, its in groups:
            if models & other:
                models |= other
                members = [*its, *members]
            else:
                apart.append((other, its))
        groups = [*apart, (models, members)]
    return [sorted(members) for _, members in groups]


def _model_and_id(record_key: str) -> Row | None:
    """Model and ``model_id`` of a record's key as PostgreSQL writes it; ``None`` where it names no row."""
    parts = bytes.fromhex(record_key.removeprefix("\\x")).decode(errors="replace").split("|", 2)
    return (_unescaped(parts[1]), parts[2]) if len(parts) == 3 else None


def _unescaped(part: str) -> str:
    return part.replace("%7C", "|").replace("%2C", ",").replace("%25", "%")
