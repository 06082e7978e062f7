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
from streams.errors import SetupError

log = structlog.get_logger(__name__)

_NAMESPACE: Final = 0x7765626F  # first key of this package's advisory locks
_PROOF_S: Final = 1.0


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
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        # Its session must end with it: back in the pool it would go on holding the locks.
        connection.detach()
        try:
            got = [
                connection.execute(
                    text("SELECT pg_try_advisory_lock(:space, :key)"), {"space": _NAMESPACE, "key": key}
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
                count = connection.execute(query, {"space": _NAMESPACE}).scalar_one()
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
