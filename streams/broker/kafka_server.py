"""A real Apache Kafka of one or three nodes under the data directory, each node a process of its own."""

import base64
import json
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streams.broker.jars import Java, Report, kafka_java, no_report
from streams.broker.processes import end_processes, runs_with, spawn
from streams.errors import SetupError

HEAP: Final = "-Xmx384m"
ALLOWED_NODES: Final = (1, 3)
_START_TIMEOUT_S: Final = 120.0
_STOP_TIMEOUT_S: Final = 15.0
_TRIES: Final = 3
_OFFSETS_KEPT_MINUTES: Final = 40 * 24 * 60  # Kafka forgets a group after 7 days, the tiers keep 14
_LOG_TAIL_LINES: Final = 15
_PORT_TAKEN: Final = "Address already in use"
_OPTIONS: Final = (
    HEAP,
    "-Djava.awt.headless=true",
    "-XX:+ExitOnOutOfMemoryError",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
)


@dataclass(frozen=True, slots=True)
class Node:
    """One broker, also a controller: its number from 1 and its two ports on loopback."""

    number: int
    port: int
    controller_port: int


@dataclass(frozen=True, slots=True)
class KafkaCluster:
    """A cluster as written to ``cluster.json``; ``cluster_id`` is the identity of its log (R20)."""

    cluster_id: str
    nodes: tuple[Node, ...]

    @property
    def bootstrap_servers(self) -> str:
        """All brokers, ``host:port`` separated by commas."""
        return ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)


def start_kafka(directory: Path, nodes: int | None = None, report: Report = no_report) -> KafkaCluster:
    """Start the nodes that do not run yet and wait until every one of them answers.

    ``nodes`` is 1 or 3; by default as many as the directory was made with, at first one. The first start fetches the
    jars and formats the storage. Raises ``SetupError`` for another number of nodes than the directory was made with,
    for missing packages, and for a node that does not come up: with the end of its log.
    """
    existing = read_cluster(directory)
    count = nodes if nodes is not None else len(existing.nodes) if existing else 1
    if count not in ALLOWED_NODES:
        raise SetupError(f"A local Kafka has 1 or 3 nodes, not {count}.", "Use --nodes 1 or --nodes 3.")
    if existing is not None and len(existing.nodes) != count:
        raise SetupError(
            f"The Kafka in {directory} was made with {len(existing.nodes)} node(s), not {count}.",
            f"Use --nodes {len(existing.nodes)}, or another WEBHOOK_DATA_DIR for the other size.",
        )
    java = kafka_java(report)
    report("starting Apache Kafka", 0, 0)
    if existing is not None and _ports_usable(directory, existing):
        cluster = existing
    else:
        cluster = KafkaCluster(existing.cluster_id if existing else _new_cluster_id(), _new_nodes(count))
    for _ in range(_TRIES):
        failure = _start_nodes(directory, cluster, java)
        if not failure:
            return cluster
        stop_kafka(directory)
        if _PORT_TAKEN not in failure:
            break
        # Between choosing a port and binding it another process took it.
        cluster = KafkaCluster(cluster.cluster_id, _new_nodes(count))
    raise SetupError(f"Apache Kafka did not start:\n{failure}", f"Its logs are in {directory}.")


def stop_kafka(directory: Path) -> bool:
    """Stop every node, by force what does not end in time; whether any ran. The data stays."""
    cluster = read_cluster(directory)
    if cluster is None:
        return False
    pids = [pid for pid in kafka_pids(directory).values() if pid is not None]
    end_processes(pids, signal.SIGTERM, _STOP_TIMEOUT_S)
    for node in cluster.nodes:
        (_node_directory(directory, node.number) / "pid").unlink(missing_ok=True)
    return bool(pids)


def kafka_pids(directory: Path) -> dict[int, int | None]:
    """Process of each node by its number; ``None`` where it does not run."""
    cluster = read_cluster(directory)
    return {} if cluster is None else {node.number: _node_pid(directory, node.number) for node in cluster.nodes}


def start_node(directory: Path, number: int) -> int:
    """Start one node of an existing cluster again, as after a crash, without waiting for it; returns its process."""
    cluster = read_cluster(directory)
    node = next((node for node in cluster.nodes if node.number == number), None) if cluster else None
    if node is None:
        raise SetupError(f"There is no node {number} in {directory}.", "Start the cluster first.")
    return _start_node(directory, node, kafka_java())


def read_cluster(directory: Path) -> KafkaCluster | None:
    """The cluster of a directory, running or not; ``None`` where none was made."""
    try:
        found = json.loads((directory / "cluster.json").read_text())
    except FileNotFoundError:
        return None
    return KafkaCluster(found["cluster_id"], tuple(Node(**node) for node in found["nodes"]))


def _write_cluster(directory: Path, cluster: KafkaCluster) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "cluster.json").write_text(json.dumps(asdict(cluster), indent=2))
    for node in cluster.nodes:
        own = _node_directory(directory, node.number)
        own.mkdir(exist_ok=True)
        (own / "server.properties").write_text(_properties(own, node, cluster))


def _properties(own: Path, node: Node, cluster: KafkaCluster) -> str:
    replicas = len(cluster.nodes)
    voters = ",".join(f"{each.number}@127.0.0.1:{each.controller_port}" for each in cluster.nodes)
    values = {
        "process.roles": "broker,controller",
        "node.id": node.number,
        "controller.quorum.voters": voters,
        "listeners": f"PLAINTEXT://127.0.0.1:{node.port},CONTROLLER://127.0.0.1:{node.controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{node.port}",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": own / "data",
        "auto.create.topics.enable": "false",
        "default.replication.factor": replicas,
        "min.insync.replicas": max(1, replicas - 1),
        "offsets.topic.replication.factor": replicas,
        "offsets.topic.num.partitions": 12,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": max(1, replicas - 1),
        "transaction.state.log.num.partitions": 4,
        "group.initial.rebalance.delay.ms": 0,
        "offsets.retention.minutes": _OFFSETS_KEPT_MINUTES,
    }
    return "".join(f"{key}={value}\n" for key, value in values.items())


def _format(directory: Path, cluster: KafkaCluster, java: Java) -> None:
    for node in cluster.nodes:
        own = _node_directory(directory, node.number)
        if (own / "data" / "meta.properties").exists():
            continue
        arguments = ("format", "--cluster-id", cluster.cluster_id, "--config", str(own / "server.properties"))
        command = java.command("kafka.tools.StorageTool", *arguments)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SetupError(f"Kafka's storage in {own} could not be formatted:\n{done.stdout}{done.stderr}".rstrip())


def _start_node(directory: Path, node: Node, java: Java) -> int:
    running = _node_pid(directory, node.number)
    if running is not None:
        return running
    own = _node_directory(directory, node.number)
    command = java.command("kafka.Kafka", str(own / "server.properties"), options=_OPTIONS)
    pid = spawn(command, own / "server.log")
    (own / "pid").write_text(str(pid))
    return pid


def _start_nodes(directory: Path, cluster: KafkaCluster, java: Java) -> str:
    """Nothing once every node answers, else why one does not."""
    _write_cluster(directory, cluster)
    _format(directory, cluster, java)
    for node in cluster.nodes:
        _start_node(directory, node, java)
    return _wait_until_up(directory, cluster)


def _wait_until_up(directory: Path, cluster: KafkaCluster) -> str:
    """Nothing once every node answers, else the end of the log of one that does not."""
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap_servers, "log_level": 0})
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        dead = [node for node in cluster.nodes if _node_pid(directory, node.number) is None]
        if dead:
            return _log_tail(directory, dead[0].number)
        try:
            if len(admin.list_topics(timeout=1).brokers) == len(cluster.nodes):
                return ""
        except KafkaException:
            time.sleep(0.1)
    return f"no answer within {_START_TIMEOUT_S:.0f} s\n{_log_tail(directory, cluster.nodes[0].number)}"


def _log_tail(directory: Path, number: int) -> str:
    path = _node_directory(directory, number) / "server.log"
    return "\n".join(path.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:])


def _new_nodes(count: int) -> tuple[Node, ...]:
    ports = _bind([0] * (2 * count))
    return tuple(Node(number, ports[2 * number - 2], ports[2 * number - 1]) for number in range(1, count + 1))


def _ports_usable(directory: Path, cluster: KafkaCluster) -> bool:
    """Whether the ports of the last start are free, or held by nodes that still run."""
    if any(kafka_pids(directory).values()):
        return True
    ports = [port for node in cluster.nodes for port in (node.port, node.controller_port)]
    try:
        _bind(ports)
    except OSError:
        return False
    return True


def _bind(ports: Sequence[int]) -> list[int]:
    """Bind all ports at once (0: any free one), release them, and return their numbers."""
    sockets = []
    try:
        for port in ports:
            each = socket.socket()
            sockets.append(each)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            each.bind(("127.0.0.1", port))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _new_cluster_id() -> str:
    # The form Kafka gives its ids; a leading dash would look like an option to its tools.
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")


def _node_directory(directory: Path, number: int) -> Path:
    return directory / f"node-{number}"


def _node_pid(directory: Path, number: int) -> int | None:
    own = _node_directory(directory, number)
    try:
        pid = int((own / "pid").read_text())
    except (FileNotFoundError, ValueError):
        return None
    return pid if runs_with(pid, str(own / "server.properties")) else None
