"""Database engines as every role needs them, and the check that a database is at the right migration."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, InterfaceError, OperationalError

from projections.migrate import BRANCHES, pending
from streams.errors import SetupError
from streams.settings import Settings
from streams.sqlite import take_write_lock

_BUSY_TIMEOUT_MS: Final = 15_000


def create_database_engine(url: str, *, durable: bool = False) -> Engine:
    """An engine for SQLite or PostgreSQL.

    SQLite runs with a write-ahead log; a committed transaction then survives ``kill -9``, and with ``durable`` also a
    loss of power. A write transaction takes SQLite's one write lock at its first statement that writes and waits up
    to 15 s for it; reads before it take none. PostgreSQL runs with a checked pool and in UTC.
    Raises ``SetupError`` for a URL that is no URL, or of another database.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise SetupError(
            "The database URL cannot be read.", "Give it as sqlite:///path or postgresql://user@host/name."
        ) from error
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        return _create_sqlite_engine(url, durable)
    if backend == "postgresql":
        return create_engine(
            parsed,
            pool_pre_ping=True,
            pool_size=5,
            max_overflow=10,
            connect_args={
                "connect_timeout": 5,
                "application_name": "webhook-streams",
                "options": "-c timezone=UTC",
                # A peer that vanished is noticed after about 15 s.
                "keepalives_idle": 5,
                "keepalives_interval": 5,
                "keepalives_count": 2,
            },
        )
    raise SetupError(f"The database {backend} is not supported.", "Use a URL of SQLite or PostgreSQL.")


def _create_sqlite_engine(url: str, durable: bool) -> Engine:
    # The driver then opens a transaction before the first INSERT, UPDATE or DELETE and takes the write lock at once:
    # a lock that is upgraded later fails at once where another connection has written in between.
    engine = create_engine(url, connect_args={"isolation_level": "IMMEDIATE", "timeout": _BUSY_TIMEOUT_MS / 1000})
    synchronous = "FULL" if durable else "NORMAL"

    @event.listens_for(engine, "connect")
    def set_pragmas(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        for pragma in ("journal_mode = WAL", f"synchronous = {synchronous}", "foreign_keys = ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "savepoint")
    def open_transaction(connection: Connection, _name: str) -> None:
        # A savepoint outside a transaction would open one itself, and its release would commit.
        take_write_lock(connection)

    return engine


def open_database(settings: Settings, *, read_only: bool = False) -> Engine:
    """An engine for the system's database, or for its read replica, if there is one, where nothing will be written.

    Raises ``SetupError`` where settings name none.
    """
    url = (settings.read_database_url if read_only else None) or settings.database_url
    if url is None:
        raise SetupError("No database is known.", "Set WEBHOOK_DATABASE_URL, or start one with `webhook local start`.")
    return create_database_engine(url.get_secret_value())


@contextmanager
def opened_database(settings: Settings, *branches: str, read_only: bool = False) -> Iterator[Engine]:
    """``open_database`` for as long as the block lasts, at the newest migration of these branches, or of all.

    Raises ``SetupError`` as ``open_database`` and ``check_migrations`` do.
    """
    engine = open_database(settings, read_only=read_only)
    try:
        check_migrations(engine, branches or BRANCHES)
        yield engine
    finally:
        engine.dispose()


def is_away(error: DBAPIError) -> bool:
    """Whether the database is away rather than refusing a statement: the same one may succeed later."""
    # psycopg2 knows no better class for an answer that ends in the middle, and no server gave it a code.
    is_cut_off = type(error) is DatabaseError and getattr(error.orig, "pgcode", None) is None
    return isinstance(error, OperationalError | InterfaceError) or error.connection_invalidated or is_cut_off


def check_migrations(engine: Engine, branches: Sequence[str] = BRANCHES) -> None:
    """Return when the database is at the newest migration of every branch named.

    Raises ``SetupError`` where it cannot be reached or is at another one.
    """
    place = engine.url.render_as_string(hide_password=True)
    try:
        missing = pending(engine, branches)
    except DBAPIError as error:
        raise SetupError(
            f"The database {place} cannot be reached: {error.orig}.", "Start it, or correct WEBHOOK_DATABASE_URL."
        ) from error
    if missing:
        levels = ", ".join(
            f"{branch} at {now or 'nothing'} instead of {head}" for branch, (now, head) in missing.items()
        )
        raise SetupError(f"The database {place} is not at the right migration: {levels}.", "Run `webhook migrate`.")
