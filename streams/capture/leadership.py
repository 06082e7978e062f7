"""At most one relay at a time publishes a share of the work: an advisory lock, proved again and again (R7)."""

import fcntl
import threading
import time
from pathlib import Path
from typing import IO, Final, Protocol

import structlog
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from streams.background import run_in_background
from streams.capture.outbox import SLICES
from streams.errors import SetupError

log = structlog.get_logger(__name__)

NAMESPACE: Final = 0x7765626F
"""First key of this package's advisory locks."""

_PROOF_S: Final = 1.0
_LEAST_IDLE_S: Final = 15.0
_IDLE_PROOFS: Final = 3
"""After so many proofs that did not come the server ends the session: its process is stopped, and others wait."""

_END_WHEN_GONE: Final = text(
    "SELECT set_config('idle_session_timeout', :idle_ms, false), set_config('tcp_keepalives_idle', '5', false), "
    "set_config('tcp_keepalives_interval', '5', false), set_config('tcp_keepalives_count', '2', false)"
)
_SLICES_HELD: Final = text(
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND mode = 'ExclusiveLock' "
    "AND classid = CAST(:space AS bigint)::oid AND objsubid = 2 AND CAST(objid AS bigint) < :slices "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
_END_WHEN_IDLE: Final = text("SET LOCAL idle_in_transaction_session_timeout = '15s'")


class Leadership(Protocol):
    """The right to publish a share."""

    def acquire(self) -> bool:
        """Try to get it; ``False`` where another relay has it. Raises ``DBAPIError`` where the database is away."""

    def holds(self) -> bool:
        """Whether it has been proved lately. Cheap; ask before each record."""

    def release(self) -> None:
        """Give it up; another relay may have it at once. May be called without holding it."""


class DatabaseLock:
    """Advisory locks of a PostgreSQL session of their own, proved at least every second by a thread.

    A proof that hangs counts as none: ``holds`` is false ``proof_timeout_s`` after the last one.
    """

    def __init__(self, engine: Engine, keys: tuple[int, ...], proof_timeout_s: float) -> None:
        self._engine = engine
        self._keys = keys
        self._proof_timeout_s = proof_timeout_s
        self._connection: Connection | None = None
        self._proved_at = 0.0
        self._released = threading.Event()
        self._prover: threading.Thread | None = None

    def acquire(self) -> bool:
        """See ``Leadership``."""
        began = time.monotonic()
        connection = own_session(self._engine, max(_LEAST_IDLE_S, _IDLE_PROOFS * self._proof_timeout_s))
        try:
            got = [
                connection.execute(
                    text("SELECT pg_try_advisory_lock(:space, :key)"), {"space": NAMESPACE, "key": key}
                ).scalar_one()
                for key in self._keys
            ]
        except DBAPIError:
            connection.close()
            raise
        if not all(got):
            connection.close()
            return False
        self._connection, self._proved_at, self._released = connection, began, threading.Event()
        released = self._released
        self._prover = run_in_background(
            "relay-lock", lambda: self._prove(connection, released), lambda _name, _error: self._disprove()
        )
        return True

    def holds(self) -> bool:
        """See ``Leadership``."""
        return self._connection is not None and time.monotonic() - self._proved_at < self._proof_timeout_s

    def release(self) -> None:
        """See ``Leadership``."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        self._released.set()
        if self._prover is not None:
            self._prover.join(self._proof_timeout_s)
            if self._prover.is_alive():
                return  # its query hangs; it closes the session when that ends
        connection.close()

    def _prove(self, connection: Connection, released: threading.Event) -> None:
        query = text(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted "
            "AND pid = pg_backend_pid() AND classid = CAST(:space AS bigint)::oid"
        )
        while not released.wait(min(_PROOF_S, self._proof_timeout_s / 3)):
            began = time.monotonic()
            try:
                count = connection.execute(query, {"space": NAMESPACE}).scalar_one()
            except DBAPIError as error:
                log.warning("the relay's lock is lost with its connection", error=str(error.orig))
                self._disprove()
                return
            if count < len(self._keys):
                self._disprove()
                return
            self._proved_at = began

    def _disprove(self) -> None:
        self._proved_at = float("-inf")


def own_session(engine: Engine, idle_s: float) -> Connection:
    """A PostgreSQL session outside the pool, in autocommit: what it locks is free when the connection is closed.

    The server ends it, too, where its machine has vanished for 15 s, or asks nothing for ``idle_s``. Raises
    ``DBAPIError`` where the database is away.
    """
    connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    # Back in the pool its session would go on holding the locks.
    connection.detach()
    try:
        connection.execute(_END_WHEN_GONE, {"idle_ms": str(max(1, round(idle_s * 1000)))})
    except DBAPIError:
        connection.close()
        raise
    return connection


def slices_held(connection: Connection) -> int | None:
    """How many slices of this database's outbox some relay holds now; ``None`` where no server knows, as for SQLite."""
    if connection.dialect.name != "postgresql":
        return None
    held: int = connection.execute(_SLICES_HELD, {"space": NAMESPACE, "slices": SLICES}).scalar_one()
    return held


def end_when_idle(connection: Connection) -> None:
    """Let the server end this transaction if its process is stopped within it: what it locks holds up a successor."""
    if connection.dialect.name == "postgresql":
        connection.execute(_END_WHEN_IDLE)


class FileLock:
    """A lock on a file beside an SQLite database: it ends with the process, however that ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    def acquire(self) -> bool:
        """See ``Leadership``. Raises ``OSError`` where the file cannot be made."""
        file = self._path.open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        self._file = file
        return True

    def holds(self) -> bool:
        """See ``Leadership``."""
        return self._file is not None

    def release(self) -> None:
        """See ``Leadership``."""
        if self._file is not None:
            self._file.close()
            self._file = None


def leadership(engine: Engine, name: str, keys: tuple[int, ...], proof_timeout_s: float) -> Leadership:
    """The right to publish share ``name`` from a database; ``keys`` are its locks there.

    Raises ``SetupError`` for a database that only one thread can see.
    """
    if engine.dialect.name == "postgresql":
        return DatabaseLock(engine, keys, proof_timeout_s)
    database = engine.url.database
    if not database or database == ":memory:":
        raise SetupError("The relay cannot publish from an SQLite database in memory.", "Give the database a file.")
    return FileLock(Path(f"{database}.{name}.lock"))
