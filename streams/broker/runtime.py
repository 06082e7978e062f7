"""The runtime file: where the services run that this data directory started, for every other command to find."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

from pydantic import SecretStr

from streams.broker.embedded import embedded_waits, running_epoch
from streams.errors import SetupError
from streams.settings import Settings

RUNTIME_FILE: Final = "runtime.json"
DATABASE_FILE: Final = "webhook.db"

_WHAT_TO_START: Final = (
    "Start the embedded services with `webhook up` or real ones with `webhook local start`, "
    "or set WEBHOOK_BOOTSTRAP_SERVERS and WEBHOOK_DATABASE_URL to yours."
)


@dataclass(frozen=True, slots=True)
class Runtime:
    """Services that run. ``epoch`` is the identity of Kafka's log (R20).

    ``pid`` is the process that holds them, 0 where each is a process of its own (``local``).
    ``http_url`` is ``None`` where nothing serves HTTP, ``database_url`` is SQLAlchemy's.
    """

    mode: Literal["embedded", "local"]
    bootstrap_servers: str
    database_url: str
    http_url: str | None
    pid: int
    epoch: str


def write_runtime(data_dir: Path, runtime: Runtime) -> None:
    """Replace the runtime file as a whole; only its owner may read it."""
    data_dir.mkdir(parents=True, exist_ok=True)
    fresh = data_dir / f".{RUNTIME_FILE}.{os.getpid()}"
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(asdict(runtime), file, indent=2)
    fresh.replace(data_dir / RUNTIME_FILE)


def read_runtime(data_dir: Path) -> Runtime | None:
    """The services that run, or ``None`` where there are none: no file, or its process has ended.

    Local services are processes of their own and outlive single failures: they count as running until they are stopped.

    Raises ``SetupError`` for a file that cannot be understood.
    """
    path = data_dir / RUNTIME_FILE
    try:
        runtime = Runtime(**json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise SetupError(f"The runtime file {path} cannot be read: {error}.", "Delete it and start again.") from error
    return runtime if runtime.mode == "local" or process_runs(runtime.pid) else None


def remove_runtime(data_dir: Path) -> None:
    """Forget the services, once they are stopped. Nothing happens where there is no file."""
    (data_dir / RUNTIME_FILE).unlink(missing_ok=True)


def embedded_database_url(data_dir: Path) -> str:
    """SQLAlchemy URL of the embedded services' SQLite file, which outlives them."""
    return f"sqlite:///{(data_dir / DATABASE_FILE).resolve()}"


def resolve(settings: Settings, *, kafka: bool = True, database: bool = True) -> Settings:
    """``settings`` with the brokers and the database that run, where it names none itself.

    ``kafka`` and ``database`` say what the caller needs. The database of an embedded installation is found also
    while nothing runs. Raises ``SetupError``, which tells what to start, where something needed is not there.
    """
    runtime = read_runtime(settings.data_dir)
    changes: dict[str, object] = {}
    if runtime is not None and not settings.bootstrap_servers:
        changes["bootstrap_servers"] = runtime.bootstrap_servers
        if runtime.mode == "embedded":
            changes |= embedded_waits()
    if settings.database_url is None:
        if runtime is not None:
            changes["database_url"] = SecretStr(runtime.database_url)
        elif (settings.data_dir / DATABASE_FILE).exists():
            changes["database_url"] = SecretStr(embedded_database_url(settings.data_dir))
    found = settings.model_copy(update=changes)
    where = settings.data_dir.resolve()
    if kafka and not found.bootstrap_servers:
        raise SetupError(f"No Kafka broker runs for the data directory {where}.", _WHAT_TO_START)
    if database and found.database_url is None:
        raise SetupError(f"No database runs for the data directory {where}.", _WHAT_TO_START)
    return found


def embedded_epoch(settings: Settings) -> str | None:
    """Epoch (R20) of the embedded broker that these settings lead to; ``None`` for a real one."""
    here = running_epoch(settings.bootstrap_servers)
    if here is not None:
        return here
    runtime = read_runtime(settings.data_dir)
    if runtime is None or runtime.mode != "embedded":
        return None
    return runtime.epoch if settings.bootstrap_servers in {None, "", runtime.bootstrap_servers} else None


def is_embedded(settings: Settings) -> bool:
    """Whether these settings lead to an embedded broker that runs now, in this process or another."""
    return embedded_epoch(settings) is not None


def require_real_broker(settings: Settings, command: str) -> None:
    """Refuse what the embedded broker cannot do. Raises ``SetupError``, which names ``webhook local start``."""
    if is_embedded(settings):
        raise SetupError(
            f"`{command}` needs a real Kafka; the services that run are embedded ones.",
            "Stop `webhook up`, then start real services with `webhook local start`.",
        )


def process_runs(pid: int) -> bool:
    """Whether a process with this number runs; a child that has ended does not, though its parent collects it later."""
    if hasattr(os, "waitid"):
        try:
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                return False
        except ChildProcessError:
            pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
