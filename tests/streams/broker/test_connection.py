"""What the clients are told, and that a real broker agrees."""

from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from faust.auth import SASLCredentials, SSLCredentials
from faust.types.auth import AuthProtocol, SASLMechanism
from pydantic import SecretStr

from streams.broker.connection import admin_config, consumer_config, faust_broker, log_ends, producer_config
from streams.errors import SetupError
from streams.settings import Settings
from tests.support.waiting import eventually
from topics.catalogue import MIB, Catalogue


def secured(settings: Settings, protocol: str) -> Settings:
    return settings.model_copy(
        update={
            "bootstrap_servers": "one:9092,two:9092",
            "kafka_security_protocol": protocol,
            "kafka_sasl_mechanism": "SCRAM-SHA-512",
            "kafka_sasl_username": "worker",
            "kafka_sasl_password": SecretStr("secret"),
        }
    )


def test_no_broker_says_what_to_start(settings: Settings) -> None:
    for call in (producer_config, admin_config, faust_broker):
        with pytest.raises(SetupError, match="webhook up"):
            call(settings)


class Failing:
    """A consumer whose question for the log's ends ends in an error."""

    def __init__(self, code: int) -> None:
        self.code = code
        self.asked_for: list[str] = []

    def get_watermark_offsets(self, *_arguments: object, **_options: object) -> tuple[int, int]:
        raise KafkaException(KafkaError(self.code))

    def list_topics(self, topic: str, timeout: float) -> None:
        self.asked_for.append(topic)
        raise KafkaException(KafkaError(KafkaError._TRANSPORT))


@pytest.mark.parametrize(
    "code", [KafkaError._DESTROY_BROKER, KafkaError.OFFSET_NOT_AVAILABLE, KafkaError.FENCED_LEADER_EPOCH]
)
def test_a_question_that_a_broker_took_with_it_or_its_successor_cannot_answer_yet_is_asked_again(code: int) -> None:
    """F5: intake and projector ended over the first of them, each time a leader was killed."""
    consumer: Any = Failing(code)
    assert log_ends(consumer, "events", 0, 1.0, "test") is None


def test_partitions_that_a_broker_did_not_know_of_yet_are_learnt_from_it() -> None:
    """F4: librdkafka remembered for minutes that a broker which had just come back knew of no partition."""
    consumer: Any = Failing(KafkaError._UNKNOWN_PARTITION)
    assert log_ends(consumer, "events", 0, 1.0, "test") is None
    assert consumer.asked_for == ["events"]


def test_an_error_that_does_not_pass_is_not_waited_out() -> None:
    consumer: Any = Failing(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    with pytest.raises(KafkaException, match="TOPIC_AUTHORIZATION_FAILED"):
        log_ends(consumer, "events", 0, 1.0, "test")


def test_the_producer_takes_what_the_largest_topic_takes(settings: Settings) -> None:
    config = producer_config(settings.model_copy(update={"bootstrap_servers": "one:9092"}))
    assert config["message.max.bytes"] == MIB + 64 * 1024
    assert (config["acks"], config["enable.idempotence"], config["partitioner"]) == ("all", True, "murmur2_random")


def test_no_client_forgets_its_brokers_while_all_are_away(settings: Settings) -> None:
    """F4: after the only broker's restart, clients that had begun anew sent nothing any more."""
    found = settings.model_copy(update={"bootstrap_servers": "one:9092"})
    for config in (producer_config(found), consumer_config(found, "group"), admin_config(found)):
        assert config["metadata.recovery.strategy"] == "none"


def test_sasl_reaches_both_libraries(settings: Settings) -> None:
    found = secured(settings, "SASL_SSL")
    config = admin_config(found)
    assert config["sasl.mechanism"] == "SCRAM-SHA-512"
    assert (config["sasl.username"], config["sasl.password"]) == ("worker", "secret")
    url, credentials = faust_broker(found)
    assert url == "kafka://one:9092;kafka://two:9092"
    assert isinstance(credentials, SASLCredentials)
    assert (credentials.protocol, credentials.mechanism) == (AuthProtocol.SASL_SSL, SASLMechanism.SCRAM_SHA_512)
    assert (credentials.username, credentials.password) == ("worker", "secret")
    assert "secret" not in repr(found)


def test_tls_alone_and_plain_text(settings: Settings) -> None:
    assert isinstance(faust_broker(secured(settings, "SSL"))[1], SSLCredentials)
    assert faust_broker(secured(settings, "PLAINTEXT"))[1] is None
    plain = faust_broker(secured(settings, "SASL_PLAINTEXT"))[1]
    assert isinstance(plain, SASLCredentials)
    assert plain.protocol is AuthProtocol.SASL_PLAINTEXT


def test_a_missing_authority_file_is_named(settings: Settings) -> None:
    broken = secured(settings, "SSL").model_copy(update={"kafka_ca_file": Path("/missing/ca.pem")})
    with pytest.raises(SetupError, match=r"/missing/ca\.pem"):
        faust_broker(broken)


@pytest.mark.kafka
def test_a_real_broker_takes_the_largest_dead_letter(kafka_settings: Settings, catalogue: Catalogue) -> None:
    record = bytes(MIB + 63 * 1024)
    errors: list[object] = []
    producer = Producer(producer_config(kafka_settings))
    producer.produce(catalogue.dead_letters, record, partition=0, on_delivery=lambda error, _r: errors.append(error))
    assert producer.flush(30) == 0
    assert errors == [None]
    consumer = Consumer(consumer_config(kafka_settings, "reader"))
    consumer.assign([TopicPartition(catalogue.dead_letters, 0, 0)])
    try:
        assert eventually(lambda: consumer.poll(0.2)).value() == record
    finally:
        consumer.close()
