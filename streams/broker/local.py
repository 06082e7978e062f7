"""Real services from Python packages alone: Apache Kafka and PostgreSQL under the data directory."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from streams.broker.jars import KAFKA_VERSION, Report, no_report
from streams.broker.kafka_server import kafka_pids, read_cluster, start_kafka, stop_kafka
from streams.broker.postgres_server import postgres_pid, postgres_url, start_postgres, stop_postgres
from streams.broker.runtime import Runtime, read_runtime, remove_runtime, write_runtime
from streams.errors import SetupError

KAFKA_DIRECTORY: Final = "kafka"
POSTGRES_DIRECTORY: Final = "postgres"


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """One process: ``pid`` is ``None`` where it does not run, ``log`` is where it writes."""

    service: str
    version: str
    address: str
    pid: int | None
    log: Path


def start(data_dir: Path, nodes: int | None = None, report: Report = no_report) -> Runtime:
    """Start what does not run yet, wait until it answers, and write the runtime file. May be called again.

    Raises ``SetupError`` where embedded services hold the data directory, packages are missing or a start fails.
    """
    data_dir = data_dir.resolve()
    with _alone(data_dir):
        present = read_runtime(data_dir)
        if present is not None and present.mode == "embedded":
            raise SetupError(
                f"Embedded services run in {data_dir} (process {present.pid}).",
                "Stop `webhook up` first, or set WEBHOOK_DATA_DIR to another directory.",
            )
        cluster = start_kafka(data_dir / KAFKA_DIRECTORY, nodes, report)
        report("starting PostgreSQL", 0, 0)
        database_url = start_postgres(data_dir / POSTGRES_DIRECTORY)
        http_url = present.http_url if present else None
        runtime = Runtime("local", cluster.bootstrap_servers, database_url, http_url, 0, cluster.cluster_id)
        write_runtime(data_dir, runtime)
        return runtime


def stop(data_dir: Path) -> bool:
    """Stop both, keep their data, and forget the runtime file; whether anything ran."""
    data_dir = data_dir.resolve()
    with _alone(data_dir):
        kafka = stop_kafka(data_dir / KAFKA_DIRECTORY)
        postgres = stop_postgres(data_dir / POSTGRES_DIRECTORY)
        present = read_runtime(data_dir)
        if present is not None and present.mode == "local":
            remove_runtime(data_dir)
        return kafka or postgres


def status(data_dir: Path) -> list[ServiceStatus]:
    """Every process these services consist of; empty where nothing was ever started."""
    data_dir = data_dir.resolve()
    kafka, postgres = data_dir / KAFKA_DIRECTORY, data_dir / POSTGRES_DIRECTORY
    pids = kafka_pids(kafka)
    cluster = read_cluster(kafka)
    found = [
        ServiceStatus(
            f"kafka node {node.number}",
            KAFKA_VERSION,
            f"127.0.0.1:{node.port}",
            pids[node.number],
            kafka / f"node-{node.number}" / "server.log",
        )
        for node in (cluster.nodes if cluster else ())
    ]
    if (postgres / "PG_VERSION").exists():
        pid = postgres_pid(postgres)
        version = (postgres / "PG_VERSION").read_text().strip()
        address = postgres_url(postgres) if pid else ""
        found.append(ServiceStatus("postgresql", version, address, pid, postgres / "log"))
    return found


@contextmanager
def _alone(data_dir: Path) -> Iterator[None]:
    """One start or stop at a time in a data directory."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "local.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
