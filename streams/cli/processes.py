"""What every role's process does: prepare, open what it works on, and stop in order at a signal."""

import asyncio
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import structlog
from sqlalchemy import Engine

from handlers.outbound import GuardedClient
from projections.migrate import BRANCHES
from streams.broker.connection import admin_client
from streams.broker.runtime import require_real_broker, resolve
from streams.cli.composition import System, check_topics, open_system
from streams.cli.console import examples
from streams.database import check_migrations, open_database
from streams.logs import configure_logs
from streams.settings import Settings

_log = structlog.get_logger(__name__)

EXIT_CODES: Final = (
    "\n\nIt stops in order at SIGTERM or Ctrl-C: what runs is finished or handed over, then it leaves.\n\n"
    "Exit codes: 0 stopped, 1 crashed, 2 set-up (broker, topics, database, migrations, settings), "
    "70 it could not go on and ended at once so that nothing is lost."
)
_CommandT = TypeVar("_CommandT", bound=Callable[..., None])


def with_examples(*lines: str, codes: str = EXIT_CODES) -> Callable[[_CommandT], _CommandT]:
    """Complete a role's help by its examples and the exit codes."""

    def complete(command: _CommandT) -> _CommandT:
        command.__doc__ = f"{command.__doc__}{examples(*lines)}{codes}"
        return command

    return complete


def prepare(command: str, base: Settings | None = None) -> Settings:
    """Settings of a role that works on a real Kafka whose topics are there. Raises ``SetupError``."""
    leave_at_signal()
    settings = resolve(base or Settings())
    configure_logs(settings)
    require_real_broker(settings, command)
    check_topics(admin_client(settings), settings)
    return settings


def migrated(engine: Engine, *branches: str) -> Engine:
    """The engine, once its database is seen to be at the newest migration. Raises ``SetupError``."""
    check_migrations(engine, branches or BRANCHES)
    return engine


@asynccontextmanager
async def opened_system(settings: Settings) -> AsyncIterator[tuple[System, GuardedClient]]:
    """What apps are made from. The database is looked at now; later it may be away."""
    system = open_system(settings, migrated(open_database(settings)))
    for broken in system.plugins.broken:
        _log.error("a plugin is broken and left out", plugin=broken.name, reason=broken.reason)
    async with GuardedClient(settings.outbound_allow) as http:
        yield system, http


def leave_at_signal() -> None:
    """Leave at once at SIGTERM, as after an orderly stop: until ``stop_event`` there is nothing to finish."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))


def stop_event() -> asyncio.Event:
    """Set by SIGTERM and SIGINT, on the running loop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


def stop_at_signal() -> threading.Event:
    """The same for a role that runs in the main thread."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop
