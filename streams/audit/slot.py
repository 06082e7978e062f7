"""Where the audit reads from: a replication slot and two publications of one PostgreSQL database, and its report."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from streams.audit.judging import OUTBOX_TABLE, Count, Finding, Judge
from streams.audit.pgoutput import Commit, Message, read
from streams.audit.subjects import (
    TrackedTable,
    as_it_stands,
    dump,
    literal,
    load,
    outbox_schema,
    quoted,
    require_postgresql,
)
from streams.errors import SetupError

ROWS: Final = "webhook_audit_rows"
EVENTS: Final = "webhook_audit_events"
_SLOT: Final = "webhook_audit"
_FETCHED: Final = 1000
_UNLIMITED_MB: Final = -1
_OLDEST: Final = 15  # the first to publish columns of a table


@dataclass(frozen=True, slots=True)
class AuditState:
    """What stands of an audit. ``held_mb``: log that its slot holds back; ``limit_mb``: how much the server allows.

    ``is_lost``: the server has thrown away log that was not read yet; nothing can be proved any more.
    """

    slot: str
    database: str
    tables: Sequence[TrackedTable]
    held_mb: float
    limit_mb: int | None
    is_lost: bool
    in_use_by: int | None


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What was found between two places of the log. ``findings`` are the first hundred."""

    begin: str
    end: str
    transactions: int
    tables: Sequence[Count]
    missing: int
    extra: int
    findings: Sequence[Finding]
    is_kept: bool = field(default=False)


class WalAudit:
    """The audit of one PostgreSQL database. Its slot is named after the database, for slots are the server's."""

    def __init__(self, engine: Engine) -> None:
        require_postgresql(engine)
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")

    def start(self, tables: Sequence[TrackedTable], *, limit_mb: int | None, wait_s: float) -> AuditState:
        """Note from now on what is written. Waits up to ``wait_s`` for transactions that have begun before.

        ``limit_mb`` is set as the server's own limit of what slots hold back (``max_slot_wal_keep_size``), 0 takes
        none, ``None`` relies on the one that is set. Raises ``SetupError`` where there is none, where an audit is there
        already, where the server's log does not tell enough or its user may not; then nothing is left behind.
        """
        with self._connection() as connection:
            _require_logical(connection)
            if self._find(connection) is not None:
                raise SetupError(
                    "An audit of this database is there already.", "See `webhook audit status`, or stop it."
                )
            _limit(connection, limit_mb)
            outbox = f"{quoted(outbox_schema(connection))}.{OUTBOX_TABLE}"
            _drop_publications(connection)
            try:
                # Before the slot: publications count as they were when a row was written.
                names = ", ".join(table.sql_name for table in tables)
                connection.execute(
                    as_it_stands(
                        f"CREATE PUBLICATION {ROWS} FOR TABLE {names} WITH (publish_via_partition_root = true)"
                    )
                )
                connection.execute(
                    as_it_stands(
                        f"CREATE PUBLICATION {EVENTS} FOR TABLE {outbox} (id, record_id, record_key, record_type) "
                        "WITH (publish = 'insert')"
                    )
                )
                connection.execute(as_it_stands(f"COMMENT ON PUBLICATION {ROWS} IS {literal(dump(tables))}"))
                connection.execute(text(f"SET statement_timeout = {int(wait_s * 1000)}"))
                connection.execute(
                    text("SELECT pg_create_logical_replication_slot(:slot, 'pgoutput')"), {"slot": _slot(connection)}
                )
            except DBAPIError:
                _drop_publications(connection)
                raise
            finally:
                connection.execute(text("RESET statement_timeout"))
            return self._require(connection)

    def state(self) -> AuditState:
        """What stands. Raises ``SetupError`` where no audit was started."""
        with self._connection() as connection:
            return self._require(connection)

    def report(self, *, keep: bool = False, progress: Callable[[int], None] = lambda _: None) -> AuditReport:
        """Judge every transaction committed since the last report or the start; the server may then drop its log.

        ``keep``: leave it to the next report, which then begins at the same place. ``progress`` hears how many
        transactions were judged. Raises ``SetupError`` where nothing can be judged.
        """
        with self._connection() as connection:
            judge = Judge(self._require(connection).tables, outbox_schema(connection))
            begin = connection.execute(
                text(
                    "SELECT confirmed_flush_lsn - CAST('0/0' AS pg_lsn) FROM pg_replication_slots "
                    "WHERE slot_name = :slot"
                ),
                {"slot": _slot(connection)},
            ).scalar_one()
            end = _present(connection)
        for message in self.messages(end):
            judge.take(message)
            if isinstance(message, Commit):
                progress(judge.transactions)
                # The last record may reach beyond the place that was asked for.
                end = max(end, message.end)
        if not keep:
            with self._connection() as connection:
                connection.execute(
                    text("SELECT pg_replication_slot_advance(:slot, CAST(:end AS pg_lsn))"),
                    {"slot": _slot(connection), "end": lsn_text(end)},
                )
        return AuditReport(
            lsn_text(int(begin)),
            lsn_text(end),
            judge.transactions,
            judge.counts,
            judge.missing,
            judge.extra,
            judge.findings,
            keep,
        )

    def messages(self, end: int | None = None) -> Iterator[Message]:
        """What was written to the tracked tables and the outbox since the last report, up to ``end`` or to now.

        Nothing is taken away by it. Raises ``SetupError`` where the server does not give it.
        """
        with self._connection() as connection:
            state = self._require(connection)
            if state.is_lost:
                raise SetupError(
                    "PostgreSQL has thrown away log that the audit had not read: it held back more than the limit.",
                    "Run `webhook audit stop` and start it anew; report more often, or raise max_slot_wal_keep_size.",
                    1,
                )
            with self._engine.connect().execution_options(isolation_level="READ COMMITTED") as reading, reading.begin():
                reading.execute(text("SET LOCAL client_encoding = 'UTF8'"))
                rows = reading.execution_options(stream_results=True, yield_per=_FETCHED).execute(
                    text(
                        "SELECT data FROM pg_logical_slot_peek_binary_changes(:slot, CAST(:end AS pg_lsn), NULL, "
                        "'proto_version', '1', 'publication_names', :publications)"
                    ),
                    {
                        "slot": state.slot,
                        "end": lsn_text(_present(connection) if end is None else end),
                        "publications": f"{ROWS},{EVENTS}",
                    },
                )
                yield from read(bytes(row.data) for row in rows)

    def stop(self) -> bool:
        """Drop the slot and the publications; whether any of it was there. Raises ``SetupError`` while it is read."""
        with self._connection() as connection:
            slot = _slot(connection)
            found = self._find(connection)
            if found is not None and found.in_use_by is not None:
                raise SetupError(
                    f"The audit is being read by PostgreSQL's process {found.in_use_by}.",
                    f"Wait for its report, or end it: SELECT pg_terminate_backend({found.in_use_by}).",
                    1,
                )
            if found is not None:
                connection.execute(text("SELECT pg_drop_replication_slot(:slot)"), {"slot": slot})
            return _drop_publications(connection) or found is not None

    def _require(self, connection: Connection) -> AuditState:
        state = self._find(connection)
        if state is None:
            raise SetupError("No audit of this database was started.", "Start one with `webhook audit start`.")
        return state

    def _find(self, connection: Connection) -> AuditState | None:
        row = connection.execute(
            text(
                "SELECT slot_name, database, active_pid, wal_status, "
                "pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) / 1048576.0 AS held_mb, "
                "(SELECT obj_description(oid, 'pg_publication') FROM pg_publication WHERE pubname = :rows) AS tables "
                "FROM pg_replication_slots WHERE slot_name = :slot AND database = current_database()"
            ),
            {"slot": _slot(connection), "rows": ROWS},
        ).one_or_none()
        if row is None:
            return None
        limit_mb = _limit_mb(connection)
        return AuditState(
            row.slot_name,
            row.database,
            load(row.tables or "[]"),
            round(float(row.held_mb or 0), 1),
            None if limit_mb == _UNLIMITED_MB else limit_mb,
            row.wal_status == "lost",
            row.active_pid,
        )

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        try:
            with self._engine.connect() as connection:
                yield connection
        except DBAPIError as error:
            raise _explained(error) from error


def lsn_text(place: int) -> str:
    """A place in the log as PostgreSQL writes it."""
    return f"{place >> 32:X}/{place & 0xFFFFFFFF:X}"


def _present(connection: Connection) -> int:
    """The end of what is safe on disk: every transaction before it has come out of the log."""
    place = connection.execute(text("SELECT pg_current_wal_flush_lsn() - CAST('0/0' AS pg_lsn)")).scalar_one()
    return int(place)


def _slot(connection: Connection) -> str:
    """Slots belong to the whole server, and their names are short: the database's number makes it one of its own."""
    number = connection.execute(text("SELECT oid FROM pg_database WHERE datname = current_database()")).scalar_one()
    return f"{_SLOT}_{number}"


def _limit_mb(connection: Connection) -> int:
    return int(
        connection.execute(text("SELECT setting FROM pg_settings WHERE name = 'max_slot_wal_keep_size'")).scalar_one()
    )


def _limit(connection: Connection, wanted_mb: int | None) -> None:
    """See that slots cannot fill the server's disk."""
    if wanted_mb == 0 or (wanted_mb is None and _limit_mb(connection) != _UNLIMITED_MB):
        return
    if wanted_mb is None:
        raise SetupError(
            "PostgreSQL sets no limit to the log that slots hold back: an audit that nobody reads would fill its disk.",
            "Give --limit-mb 4096 to set one on the server (max_slot_wal_keep_size), or --no-limit and watch the disk.",
        )
    others = connection.execute(text("SELECT count(*) FROM pg_replication_slots")).scalar_one()
    if others:
        raise SetupError(
            f"The server has {others} other replication slots, which a limit would bind as well.",
            "Set max_slot_wal_keep_size yourself and start without --limit-mb.",
        )
    connection.execute(text(f"ALTER SYSTEM SET max_slot_wal_keep_size = '{int(wanted_mb)}MB'"))
    connection.execute(text("SELECT pg_reload_conf()"))


def _require_logical(connection: Connection) -> None:
    version = int(connection.execute(text("SHOW server_version_num")).scalar_one()) // 10_000
    if version < _OLDEST:
        raise SetupError(f"The audit needs PostgreSQL {_OLDEST} or newer, and this is {version}.")
    level = connection.execute(text("SHOW wal_level")).scalar_one()
    if level != "logical":
        raise SetupError(
            f"PostgreSQL's log does not tell of rows: its wal_level is {level}.",
            "Run ALTER SYSTEM SET wal_level = logical and restart PostgreSQL.",
        )


def _drop_publications(connection: Connection) -> bool:
    found = connection.execute(
        text("SELECT count(*) FROM pg_publication WHERE pubname IN (:rows, :events)"), {"rows": ROWS, "events": EVENTS}
    ).scalar_one()
    connection.execute(text(f"DROP PUBLICATION IF EXISTS {ROWS}, {EVENTS}"))
    return bool(found)


def _explained(error: DBAPIError) -> SetupError:
    code: Any = getattr(error.orig, "pgcode", None)
    said = str(error.orig).strip().splitlines()[0]
    match code:
        case "57014":
            hint = "Transactions that had begun before did not end in time: end them, or wait longer (--wait-s)."
        case "42501":
            hint = "The user has to own the tables, be allowed to CREATE in the database, and have REPLICATION."
        case "53400":
            hint = "Every slot is taken: raise max_replication_slots, or drop one (pg_replication_slots)."
        case "55006":
            hint = "Another report is reading it: wait for that one."
        case _:
            hint = "Start the database, or correct --database-url."
    return SetupError(f"PostgreSQL refuses: {said}.", hint, 1)
