"""Topics on a real broker become, and stay, what the catalogue says."""

from collections.abc import Mapping

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from confluent_kafka.cimpl import NewTopic

from streams.broker.connection import admin_client, admin_config, producer_config
from streams.broker.epoch import log_epoch
from streams.broker.provision import Action, apply, plan
from streams.errors import SetupError
from streams.settings import Settings
from tests.support.waiting import eventually
from topics.catalogue import Catalogue

pytestmark = pytest.mark.kafka


@pytest.fixture
def admin(kafka_settings: Settings) -> AdminClient:
    return admin_client(kafka_settings)


@pytest.fixture
def wanted(settings: Settings) -> Catalogue:
    """A catalogue of which nothing exists yet."""
    return settings.model_copy(update={"partitions": 2}).catalogue()


def more_partitions(settings: Settings, partitions: int) -> Catalogue:
    return settings.model_copy(update={"partitions": partitions}).catalogue()


def partitions(admin: AdminClient) -> Mapping[str, int]:
    return {name: len(topic.partitions) for name, topic in admin.list_topics(timeout=10).topics.items()}


def test_everything_is_created_once(admin: AdminClient, wanted: Catalogue) -> None:
    planned = plan(admin, wanted)
    assert [(change.topic, change.action) for change in planned] == [(name, Action.CREATE) for name in wanted.specs]
    assert not set(wanted.specs) & set(partitions(admin)), "a plan must not create anything"
    assert apply(admin, wanted) == planned
    assert plan(admin, wanted) == []
    assert apply(admin, wanted) == []
    present = partitions(admin)
    assert {name: present[name] for name in wanted.specs} == {s.name: s.partitions for s in wanted.specs.values()}
    resource = ConfigResource(ResourceType.TOPIC, wanted.control)
    (future,) = admin.describe_configs([resource]).values()
    assert future.result(10)["cleanup.policy"].value == "compact"


def test_drift_in_configuration_is_shown_and_undone(admin: AdminClient, wanted: Catalogue) -> None:
    apply(admin, wanted)
    drifted = ConfigEntry("retention.ms", "1000", incremental_operation=AlterConfigOpType.SET)
    kept = ConfigEntry("segment.bytes", "20000000", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, wanted.events, incremental_configs=[drifted, kept])
    (future,) = admin.incremental_alter_configs([resource]).values()
    future.result(10)
    (change,) = eventually(lambda: plan(admin, wanted))
    assert (change.topic, change.action) == (wanted.events, Action.CONFIGURE)
    assert (change.present, change.wanted) == ("retention.ms=1000", f"retention.ms={40 * 24 * 3600 * 1000}")
    apply(admin, wanted)
    assert plan(admin, wanted) == []
    (future,) = admin.describe_configs([ConfigResource(ResourceType.TOPIC, wanted.events)]).values()
    assert future.result(10)["segment.bytes"].value == "20000000", "what the catalogue does not name stays"


def test_a_missing_topic_is_made_again_in_another_log(
    admin: AdminClient, wanted: Catalogue, kafka_settings: Settings
) -> None:
    apply(admin, wanted)
    before = log_epoch(kafka_settings, wanted.events)
    assert log_epoch(kafka_settings, wanted.events) == before
    (future,) = admin.delete_topics([wanted.events], operation_timeout=30).values()
    future.result(30)
    eventually(lambda: wanted.events not in partitions(admin))
    assert [change.action for change in apply(admin, wanted)] == [Action.CREATE]
    assert log_epoch(kafka_settings, wanted.events) != before


def test_empty_topics_may_grow_but_topics_with_records_may_not(
    admin: AdminClient, wanted: Catalogue, kafka_settings: Settings
) -> None:
    apply(admin, wanted)
    grown = more_partitions(kafka_settings, 3)
    assert {change.action for change in apply(admin, grown)} == {Action.ADD_PARTITIONS}
    assert partitions(admin)[wanted.events] == 3
    producer = Producer(producer_config(kafka_settings))
    producer.produce(wanted.topic("webhook-high"), b"task", partition=1)
    assert producer.flush(20) == 0
    with pytest.raises(SetupError, match=rf"{wanted.topic('webhook-high')}: 3 partition.* keys would change partition"):
        apply(admin, more_partitions(kafka_settings, 4))
    assert partitions(admin)[wanted.events] == 3, "a refused change lets nothing else happen"
    refused = [each.topic for each in plan(admin, more_partitions(kafka_settings, 4)) if each.action is Action.REFUSED]
    assert refused == [wanted.topic("webhook-high")]


def test_fewer_partitions_and_other_replicas_are_refused(
    admin: AdminClient, wanted: Catalogue, kafka_settings: Settings
) -> None:
    apply(admin, wanted)
    with pytest.raises(SetupError, match="cannot take partitions away"):
        apply(admin, more_partitions(kafka_settings, 1))
    with pytest.raises(SetupError, match="kafka-reassign-partitions"):
        apply(admin, wanted, replication_factor=3)
    assert plan(admin, wanted, replication_factor=1) == []


def test_what_the_broker_refuses_is_told(admin: AdminClient, wanted: Catalogue) -> None:
    with pytest.raises(SetupError, match=r"Not every topic could be made .*[Rr]eplication"):
        apply(admin, wanted, replication_factor=9)


def test_topics_of_others_are_left_alone(admin: AdminClient, wanted: Catalogue) -> None:
    (future,) = admin.create_topics([NewTopic(f"other-{wanted.events}", 1, 1)]).values()
    future.result(20)
    apply(admin, wanted)
    eventually(lambda: f"other-{wanted.events}" in partitions(admin))
    assert partitions(admin)[f"other-{wanted.events}"] == 1


def test_the_epoch_of_a_missing_topic_names_the_command(kafka_settings: Settings) -> None:
    with pytest.raises(SetupError, match="webhook topics apply"):
        log_epoch(kafka_settings, "missing")


def test_no_broker_is_told(kafka_settings: Settings) -> None:
    nobody = kafka_settings.model_copy(update={"bootstrap_servers": "127.0.0.1:1"})
    assert admin_config(nobody)["bootstrap.servers"] == "127.0.0.1:1"
    with pytest.raises(SetupError, match=r"No Kafka broker answers at 127\.0\.0\.1:1"):
        admin_client(nobody)
