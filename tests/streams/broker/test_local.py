"""Kafka and PostgreSQL as local processes: start, find, stop, start again with the same data."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from streams.broker import jars, local
from streams.broker.kafka_server import kafka_pids, read_cluster, start_kafka, start_node, stop_kafka
from streams.broker.runtime import Runtime, read_runtime, resolve, write_runtime
from streams.errors import SetupError
from streams.settings import Settings
from tests.support.services import missing, service_directory
from tests.support.waiting import eventually


@pytest.fixture
def data_dir() -> Iterator[Path]:
    with service_directory() as directory:
        try:
            jars.kafka_java()
        except SetupError as error:
            missing("Apache Kafka", error)
        yield directory
        local.stop(directory)
        stop_kafka(directory)


def write_and_count(bootstrap_servers: str, topic: str, create: bool = False) -> int:
    """Write one record and return how many the topic holds."""
    if create:
        admin = AdminClient({"bootstrap.servers": bootstrap_servers})
        (future,) = admin.create_topics([NewTopic(topic, 1)]).values()
        future.result(30)
    producer = Producer({"bootstrap.servers": bootstrap_servers, "acks": "all"})
    producer.produce(topic, b"x", partition=0)
    assert producer.flush(60) == 0
    consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "counter"})
    try:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=30)
        return int(high - low)
    finally:
        consumer.close()


@pytest.mark.kafka
@pytest.mark.postgres
def test_services_start_once_stop_and_keep_their_data(data_dir: Path) -> None:
    runtime = local.start(data_dir)
    pids = [each.pid for each in local.status(data_dir)]
    assert len(pids) == 2
    assert None not in pids
    assert read_runtime(data_dir) == runtime
    assert local.start(data_dir) == runtime
    assert [each.pid for each in local.status(data_dir)] == pids, "a second start must change nothing"

    settings = resolve(Settings.model_validate({"data_dir": data_dir}))
    assert settings.bootstrap_servers == runtime.bootstrap_servers
    assert write_and_count(runtime.bootstrap_servers, "kept", create=True) == 1
    engine = sqlalchemy.create_engine(runtime.database_url)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("CREATE TABLE kept (id int)"))
    engine.dispose()

    assert local.stop(data_dir)
    assert not local.stop(data_dir)
    assert [each.pid for each in local.status(data_dir)] == [None, None]
    assert read_runtime(data_dir) is None

    again = local.start(data_dir)
    assert again.epoch == runtime.epoch, "the same log"
    assert write_and_count(again.bootstrap_servers, "kept") == 2
    engine = sqlalchemy.create_engine(again.database_url)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("INSERT INTO kept VALUES (1)"))
    engine.dispose()


@pytest.mark.kafka
def test_a_killed_node_of_three_loses_nothing_and_comes_back(data_dir: Path) -> None:
    cluster = start_kafka(data_dir, 3)
    assert write_and_count(cluster.bootstrap_servers, "kept", create=True) == 1
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap_servers})
    assert len(admin.list_topics("kept", timeout=10).topics["kept"].partitions[0].replicas) == 3
    first = kafka_pids(data_dir)[1]
    assert first is not None
    os.kill(first, signal.SIGKILL)
    eventually(lambda: kafka_pids(data_dir)[1] is None)
    assert write_and_count(cluster.bootstrap_servers, "kept") == 2
    start_node(data_dir, 1)
    eventually(lambda: len(admin.list_topics(timeout=10).brokers) == 3, 60)
    assert start_kafka(data_dir) == cluster, "without a number: as many nodes as there are"
    with pytest.raises(SetupError, match="made with 3 node"):
        start_kafka(data_dir, 1)
    assert stop_kafka(data_dir)


@pytest.mark.kafka
def test_a_port_taken_meanwhile_is_given_up(data_dir: Path) -> None:
    cluster = start_kafka(data_dir)
    stop_kafka(data_dir)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", cluster.nodes[0].port))
        taken.listen()
        again = start_kafka(data_dir)
    assert again.cluster_id == cluster.cluster_id
    assert again.nodes[0].port != cluster.nodes[0].port
    assert read_cluster(data_dir) == again
    stop_kafka(data_dir)


@pytest.mark.kafka
def test_why_a_node_did_not_start_is_told(data_dir: Path) -> None:
    start_kafka(data_dir)
    stop_kafka(data_dir)
    (data_dir / "node-1" / "data" / "meta.properties").write_text("version=1\ncluster.id=another\nnode.id=7\n")
    with pytest.raises(SetupError, match=r"(?s)did not start:.*node[. ]id"):
        start_kafka(data_dir)
    assert kafka_pids(data_dir) == {1: None}


def test_two_nodes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="1 or 3 nodes, not 2"):
        start_kafka(tmp_path, 2)


def test_embedded_services_keep_the_data_directory(tmp_path: Path) -> None:
    write_runtime(tmp_path, Runtime("embedded", "127.0.0.1:9", "sqlite:///x", None, os.getpid(), "epoch"))
    with pytest.raises(SetupError, match="Stop `webhook up` first"):
        local.start(tmp_path)
    assert local.status(tmp_path) == []
    assert not local.stop(tmp_path)
    assert read_runtime(tmp_path) is not None, "stopping local services must not forget embedded ones"
