"""The services under the roles, with the handles by which faults are applied to them."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from streams.broker.kafka_server import KafkaCluster, kafka_pids, start_kafka, start_node, stop_kafka
from streams.broker.postgres_server import postgres_pid, postgres_url, start_postgres, stop_postgres
from streams.errors import SetupError
from tests.support.waiting import eventually

_ANSWER_S: Final = 10
_CLIENTS: Final = 20
_PROBE: Final = "probe"
_REFUSED_MS: Final = 5000
_FILL_PIECE: Final = b"\0" * (1 << 20)


class Kafka:
    """A real cluster under ``directory``. Nodes are numbered from 1."""

    def __init__(self, directory: Path, nodes: int) -> None:
        self.directory = directory
        self.cluster: KafkaCluster = start_kafka(directory, nodes)
        self._clients: deque[AdminClient] = deque(maxlen=_CLIENTS)

    @property
    def admin(self) -> AdminClient:
        """A client of its own for each question: one that has lived through a broker's death may never answer again."""
        return self._client(self.bootstrap_servers)

    def _client(self, servers: str) -> AdminClient:
        client = AdminClient({"bootstrap.servers": servers, "log_level": 0})
        # Without it no answer comes, and one that went while its answer came in would abort the process: the last to
        # hold it would be librdkafka's own thread.
        self._clients.append(client)
        return client

    @property
    def bootstrap_servers(self) -> str:
        return self.cluster.bootstrap_servers

    def leader(self, topic: str, partition: int = 0) -> int:
        """Number of the node that leads a partition."""
        found: int = self.admin.list_topics(topic, timeout=_ANSWER_S).topics[topic].partitions[partition].leader
        return found

    def logs(self) -> list[Path]:
        """What each node has printed."""
        return sorted(self.directory.glob("node-*/server.log"))

    def is_running(self, number: int) -> bool:
        return kafka_pids(self.directory)[number] is not None

    def signal(self, number: int, how: signal.Signals) -> None:
        """Send a signal to a node, and see it go where it ends it."""
        pid = kafka_pids(self.directory)[number]
        assert pid is not None, f"node {number} does not run"
        os.kill(pid, how)
        if how in (signal.SIGKILL, signal.SIGTERM):
            _collect(pid)

    def start(self, number: int) -> None:
        """Start a node that does not run."""
        start_node(self.directory, number)

    def restart(self, number: int) -> None:
        """Kill a node and start it at once."""
        self.signal(number, signal.SIGKILL)
        self.start(number)

    def add_listener(self, address: str, advertised_port: int | None = None) -> int:
        """Let the one node be reached by another way too; the port it listens on there.

        Clients that come this way are told ``advertised_port``, which may be that of a proxy in between.
        """
        port = _free_port(address)
        own = self.directory / "node-1" / "server.properties"
        lines = dict(line.split("=", 1) for line in own.read_text().splitlines())
        lines["listeners"] += f",WAY://{address}:{port}"
        lines["advertised.listeners"] += f",WAY://{address}:{advertised_port or port}"
        lines["listener.security.protocol.map"] = "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,WAY:PLAINTEXT"
        self.signal(1, signal.SIGTERM)
        own.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
        self.start(1)
        eventually(self.is_whole, 120, "the broker answers")
        return port

    def create_probe(self) -> None:
        """Make the topic that ``accepts`` writes to, with a replica on each node."""
        nodes = len(kafka_pids(self.directory))
        topic = NewTopic(_PROBE, 1, nodes, config={"min.insync.replicas": str(nodes // 2 + 1)})
        for future in self.admin.create_topics([topic]).values():
            future.result(_ANSWER_S)

    def accepts(self) -> bool:
        """Whether a record is acknowledged by enough nodes, within a few seconds."""
        errors: list[KafkaError | None] = []
        producer = Producer(
            {
                "bootstrap.servers": self.bootstrap_servers,
                "acks": "all",
                "message.timeout.ms": _REFUSED_MS,
                "log_level": 0,
            }
        )
        producer.produce(_PROBE, b"probe", on_delivery=lambda error, _: errors.append(error))
        producer.flush(2 * _REFUSED_MS / 1000)
        # A KafkaError that is compared with None leaves an error behind, which strikes whatever comes next.
        return [error is None for error in errors] == [True]

    def is_whole(self) -> bool:
        """Whether every node says that all of them are there and that every partition has all its replicas in sync.

        Each is asked by itself: the others take one that was killed for alive until its session has ended, and one that
        starts answers only when it has caught up.
        """
        return all(self._is_whole_to(f"127.0.0.1:{node.port}") for node in self.cluster.nodes)

    def _is_whole_to(self, address: str) -> bool:
        try:
            found = self._client(address).list_topics(timeout=_ANSWER_S)
        except KafkaException:
            return False
        return len(found.brokers) == len(self.cluster.nodes) and all(
            len(each.isrs) == len(each.replicas) and each.leader >= 0
            for topic in found.topics.values()
            for each in topic.partitions.values()
        )

    def stop(self) -> None:
        stop_kafka(self.directory)


class Postgres:
    """A real server under ``directory``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        start_postgres(directory)
        self.url = postgres_url(directory)

    def stop_immediately(self) -> None:
        """As ``pg_ctl stop -m immediate``: nothing is finished, the next start recovers."""
        self._end(signal.SIGQUIT)

    def kill(self) -> None:
        """``kill -9`` of the main process; its children notice and end."""
        self._end(signal.SIGKILL)

    def start(self) -> None:
        """Start it again. Raises ``SetupError`` where it does not come up within half a minute."""
        deadline = time.monotonic() + 30
        while True:
            try:
                start_postgres(self.directory)
            except SetupError:
                # Children of a killed main process may still hold its memory.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
            else:
                return

    def _end(self, how: signal.Signals) -> None:
        pid = postgres_pid(self.directory)
        assert pid is not None, "PostgreSQL does not run"
        os.kill(pid, how)
        _collect(pid)

    def stop(self) -> None:
        stop_postgres(self.directory)


def _free_port(address: str) -> int:
    with socket.create_server((address, 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _collect(pid: int) -> None:
    def is_gone() -> bool:
        try:
            return os.waitpid(pid, os.WNOHANG)[0] == pid
        except ChildProcessError:
            return not Path(f"/proc/{pid}").exists()

    eventually(is_gone, 60, f"process {pid} ends")


class SmallDisk:
    """A file system in memory with a size of its own. Needs root."""

    def __init__(self, path: Path, megabytes: int) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(path)], check=True)
        self._filler = path / "filler"

    def fill(self, leave_kib: int = 0) -> None:
        """Write until no more fits but ``leave_kib``."""
        with self._filler.open("wb", buffering=0) as file:
            while (free := shutil.disk_usage(self.path).free - leave_kib * 1024) > 0:
                try:
                    file.write(_FILL_PIECE[:free])
                except OSError:
                    return

    def free(self) -> None:
        """Make room again."""
        self._filler.unlink(missing_ok=True)

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.path)], check=True)


class Services(NamedTuple):
    """What ``plant`` starts."""

    kafka: Kafka
    postgres: Postgres
    disks: dict[str, SmallDisk]


@contextmanager
def plant(directory: Path, nodes: int = 1, disks: Mapping[str, int] | None = None) -> Iterator[Services]:
    """Kafka and PostgreSQL; ``disks`` gives the size in MiB of the disk of ``kafka`` (node 1) and of ``postgres``."""
    places = {"kafka": directory / "kafka" / "node-1" / "data", "postgres": directory / "postgres"}
    with ExitStack() as stack:
        mounted = {name: SmallDisk(places[name], megabytes) for name, megabytes in (disks or {}).items()}
        for disk in mounted.values():
            stack.callback(disk.unmount)
        kafka = Kafka(directory / "kafka", nodes)
        stack.callback(kafka.stop)
        postgres = Postgres(directory / "postgres")
        stack.callback(postgres.stop)
        yield Services(kafka, postgres, mounted)
