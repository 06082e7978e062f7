"""From a commit to the start of its handler: ``python -m tests.bench.latency [--rate 500] [--seconds 20] [--json]``.

Starts a Kafka, a PostgreSQL and every role as a process of its own, all on this machine, and commits transactions at a
given rate, whether or not the earlier ones were handled; each writes one row of a model with the mixin. The time of one
counts from the return of its commit to the first line of its handler. What is wanted holds for a machine that has
nothing else to do, so the load of the machine is printed beside the figures.
"""

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from handlers.tenants.current import tenant_context
from streams.agents.intake import GROUP as INTAKE_GROUP
from streams.broker.connection import admin_client
from streams.broker.postgres_server import postgres_url
from streams.capture.model import WebhookModel, configure_capture
from streams.database import create_database_engine
from tests.bench.engine import bench_settings
from tests.support.load import CONFIGURATION, ENDPOINT, Journal
from tests.support.roles import Installation, has_members, installation
from tests.support.services import running_kafka, running_postgres
from tests.support.waiting import eventually

P50_MS: Final = 100.0
P99_MS: Final = 300.0
WRITERS: Final = 8
WARM_UP_S: Final = 5.0
TIER: Final = "webhook-high"
_WAIT_S: Final = 120.0
_ENTRY: Final = {"models": ["Parcel"], "events": ["created"], "webhook_endpoint": ENDPOINT, "priority": 9}


class Base(DeclarativeBase):
    """The model's table."""


class Parcel(WebhookModel, Base):
    """What the journal's handler needs, as columns."""

    __tablename__ = "bench_parcels"

    id: Mapped[int] = mapped_column(primary_key=True)
    sequence: Mapped[int]
    key: Mapped[int]
    sleep_s: Mapped[float]
    address: Mapped[str]


@dataclass(slots=True)
class Writing:
    """Transactions at a rate, by several threads. Times are microseconds since 1970, by sequence."""

    engine: Engine
    rate_per_s: float
    count: int
    committed_us: dict[int, int] = field(default_factory=dict)
    elapsed_s: float = 0.0

    def run(self) -> None:
        """Commit them all. Raises ``RuntimeError`` where some were not."""
        begin = time.monotonic()
        threads = [threading.Thread(target=self._write, args=(begin, first)) for first in range(WRITERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.elapsed_s = time.monotonic() - begin
        if len(self.committed_us) < self.count:
            raise RuntimeError(f"{len(self.committed_us)} of {self.count} transactions were committed")

    def _write(self, begin: float, first: int) -> None:
        with tenant_context("1"), Session(self.engine) as session:
            for sequence in range(first, self.count, WRITERS):
                time.sleep(max(0.0, begin + sequence / self.rate_per_s - time.monotonic()))
                session.add(Parcel(sequence=sequence, key=sequence, sleep_s=0.0, address="Keizersgracht 1, Amsterdam"))
                session.commit()
                self.committed_us[sequence] = time.time_ns() // 1000


def measure(rate_per_s: float, seconds: float) -> dict[str, Any]:
    """Latencies in milliseconds, what was offered and what was done, and the load of the machine."""
    with running_kafka() as bootstrap, running_postgres() as postgres, tempfile.TemporaryDirectory() as directory:
        settings, url = bench_settings(bootstrap), postgres_url(postgres)
        with installation(settings, url, Path(directory)) as roles:
            _start(roles)
            before = configure_capture(settings.catalogue(), "bench")
            engine = create_database_engine(url)
            try:
                Base.metadata.create_all(engine)
                warm = int(rate_per_s * WARM_UP_S)
                writing = Writing(engine, rate_per_s, warm + int(rate_per_s * seconds))
                writing.run()
                load = os.getloadavg()[0]
                journal = Journal(roles.journal)
                eventually(lambda: len(journal.read().starts) >= writing.count, _WAIT_S, "every event was handled")
            finally:
                engine.dispose()
                configure_capture(before)
            roles.check()
    started_us = {start.sequence: start.wall_us for start in reversed(journal.starts)}
    times = sorted(
        (started_us[sequence] - committed) / 1000
        for sequence, committed in writing.committed_us.items()
        if sequence >= warm
    )
    p50, p99 = (times[int(share * len(times))] for share in (0.5, 0.99))
    return {
        "transactions": len(times),
        "offered_per_s": rate_per_s,
        "committed_per_s": round(writing.count / writing.elapsed_s, 1),
        "p50_ms": round(p50, 1),
        "p90_ms": round(times[int(0.9 * len(times))], 1),
        "p99_ms": round(p99, 1),
        "slowest_ms": round(times[-1], 1),
        "load_1_min": round(load, 1),
        "cores": os.cpu_count(),
        "holds": p50 < P50_MS and p99 < P99_MS,
    }


def _start(roles: Installation) -> None:
    """Every role that a change passes, and the projector, once the worker has its partitions."""
    roles.run("migrate")
    roles.run("topics", "apply")
    document = roles.journal.with_name("tenant.json")
    document.write_text(json.dumps({**CONFIGURATION, "webhook_settings": [_ENTRY]}))
    roles.run("tenants", "create", "bench", "--config", str(document))
    for role in (("relay",), ("intake",), ("work", TIER), ("project",)):
        roles.start(*role)
    catalogue = roles.settings.catalogue()
    admin = admin_client(roles.settings)
    groups = (
        (catalogue.tier(catalogue.topic(TIER)).name, catalogue.topic(TIER)),
        (INTAKE_GROUP, catalogue.changes),
    )

    def ready() -> bool:
        roles.check()
        return all(has_members(admin, group, topic, 1) for group, topic in groups)

    eventually(ready, _WAIT_S, "intake and the worker have their partitions")


def main() -> int:
    """Print what was measured; 1 where what is wanted does not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.latency", description=__doc__)
    parser.add_argument("--rate", type=float, default=500.0, help="transactions a second")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long, after five seconds of warming up")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    arguments = parser.parse_args()
    figures = measure(arguments.rate, arguments.seconds)
    if arguments.json:
        print(json.dumps(figures, indent=2))
    else:
        print("  ".join(f"{name} {value}" for name, value in figures.items()))
        print(f"wanted: p50 below {P50_MS:g} ms, p99 below {P99_MS:g} ms")
    return int(not figures["holds"])


if __name__ == "__main__":
    sys.exit(main())
