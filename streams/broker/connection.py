"""How each Kafka client is told to connect: one place for brokers, security and the limits that must agree."""

import contextlib
import ssl
from typing import Any, Final

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from faust.auth import Credentials, SASLCredentials, SSLCredentials

from streams.broker.runtime import is_embedded
from streams.errors import SetupError
from streams.settings import Settings

_ANSWER_S: Final = 5.0

_WARNINGS: Final = 4
"""Syslog level of librdkafka's own lines on stderr: connections that come and go are none of the user's business."""

_SILENT: Final = 0

_REFRESH_MS: Final = 30_000
"""How often each client asks what partitions there are; librdkafka asks every five minutes, an outage's length."""

_log = structlog.get_logger(__name__)

PARTITIONER: Final = "murmur2_random"
"""The Java clients' partitioner, so that every producer puts a key into the same partition (DESIGN §4)."""

PASSING_ERRORS: Final = frozenset(
    {
        KafkaError._TIMED_OUT,
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._DESTROY_BROKER,
        KafkaError._UNKNOWN_BROKER,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.KAFKA_STORAGE_ERROR,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
    }
)
"""Errors that pass by themselves: brokers are away, elect a leader, or have not heard yet of a topic just created."""


def log_ends(consumer: Consumer, topic: str, partition: int, timeout_s: float, who: str) -> tuple[int, int] | None:
    """First and next offset of a partition; ``None``: the brokers cannot tell now, so ``who`` asks again.

    Raises ``KafkaException`` for what does not pass by itself.
    """
    try:
        found = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=timeout_s, cached=False)
    except KafkaException as error:
        if error.args[0].code() not in PASSING_ERRORS:
            raise
        _log.warning(f"the {who} waits for the brokers", topic=topic, partition=partition, error=str(error))
        if error.args[0].code() == KafkaError._UNKNOWN_PARTITION:
            _learn_partitions(consumer, topic, timeout_s)
        return None
    return None if found is None else (int(found[0]), int(found[1]))


def _learn_partitions(consumer: Consumer, topic: str, timeout_s: float) -> None:
    """Have the brokers asked anew what partitions there are.

    librdkafka (2.16) was seen to call partitions unknown for as long as it was asked while the broker had them. This
    helps only a client that still reaches a broker: some send nothing any more after the only one's restart (F4).
    """
    with contextlib.suppress(KafkaException):
        consumer.list_topics(topic, timeout=timeout_s)


def bootstrap_servers(settings: Settings) -> str:
    """Brokers as ``host:port,host:port``. Raises ``SetupError`` where none are known; see ``runtime.resolve``."""
    if not settings.bootstrap_servers:
        raise SetupError(
            "No Kafka broker is known.",
            "Set WEBHOOK_BOOTSTRAP_SERVERS, or start one with `webhook up` or `webhook local start`.",
        )
    return settings.bootstrap_servers


def producer_config(settings: Settings) -> dict[str, Any]:
    """Configuration of a confluent-kafka producer: idempotent, acknowledged by all in-sync replicas.

    ``message.max.bytes`` is that of the topic with the largest records, or librdkafka would refuse by its own
    lower default what the topic takes (R3). Callers may add to the dictionary.
    """
    return {
        **_client(settings),
        "acks": "all",
        "enable.idempotence": True,
        "partitioner": PARTITIONER,
        "message.max.bytes": max(spec.max_message_bytes for spec in settings.catalogue().specs.values()),
    }


def consumer_config(settings: Settings, group: str) -> dict[str, Any]:
    """Configuration of a confluent-kafka consumer that commits by itself nothing and starts at the earliest (R21)."""
    return {
        **_client(settings),
        "group.id": group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "fetch.wait.max.ms": settings.fetch_wait_ms,
        "session.timeout.ms": int(settings.session_timeout_s * 1000),
    }


def admin_config(settings: Settings) -> dict[str, Any]:
    """Configuration of a confluent-kafka admin client."""
    return _client(settings)


def admin_client(settings: Settings) -> AdminClient:
    """An admin client of brokers that answer. Raises ``SetupError`` where none does within five seconds."""
    admin = AdminClient({**admin_config(settings), "log_level": _SILENT})
    try:
        admin.list_topics(timeout=_ANSWER_S)
    except KafkaException as error:
        raise SetupError(
            f"No Kafka broker answers at {settings.bootstrap_servers}: {error.args[0].str()}.",
            "Check that it runs and that WEBHOOK_BOOTSTRAP_SERVERS and the WEBHOOK_KAFKA_ settings are right; "
            "`webhook local status` shows local services.",
        ) from error
    return admin


def faust_broker(settings: Settings) -> tuple[str, Credentials | None]:
    """Faust's broker URL (``kafka://host:port;kafka://host:port``) and its credentials, ``None`` for plain text."""
    servers = bootstrap_servers(settings).split(",")
    url = ";".join(f"kafka://{server.strip()}" for server in servers)
    context = _tls(settings) if settings.kafka_security_protocol.endswith("SSL") else None
    if settings.kafka_security_protocol.startswith("SASL"):
        password = settings.kafka_sasl_password
        return url, SASLCredentials(
            username=settings.kafka_sasl_username,
            password=password.get_secret_value() if password else None,
            ssl_context=context,
            mechanism=settings.kafka_sasl_mechanism or "PLAIN",
        )
    return url, SSLCredentials(context) if context else None


def _tls(settings: Settings) -> ssl.SSLContext:
    cafile = settings.kafka_ca_file
    if cafile is not None and not cafile.is_file():
        raise SetupError(f"The file of authorities {cafile} does not exist.", "Correct WEBHOOK_KAFKA_CA_FILE.")
    return ssl.create_default_context(cafile=cafile)


def _client(settings: Settings) -> dict[str, Any]:
    config: dict[str, Any] = {
        "bootstrap.servers": bootstrap_servers(settings),
        "security.protocol": settings.kafka_security_protocol,
        "topic.metadata.refresh.interval.ms": _REFRESH_MS,
        # Where all brokers are away at once, librdkafka (2.16) by default forgets them and begins anew. After the only
        # broker's restart such clients were seen to send nothing for minutes, to make and end threads without pause,
        # and to take partitions for unknown. With this it goes on trying those it knows, but clients that stand were
        # seen all the same (their coordinator's requests time out unsent); what makes them stand is not known yet.
        "metadata.recovery.strategy": "none",
        # The embedded broker ends before its clients, which then complain on standard error.
        "log_level": _SILENT if is_embedded(settings) else _WARNINGS,
    }
    if settings.kafka_security_protocol.startswith("SASL"):
        password = settings.kafka_sasl_password
        config["sasl.mechanism"] = settings.kafka_sasl_mechanism or "PLAIN"
        config["sasl.username"] = settings.kafka_sasl_username or ""
        config["sasl.password"] = password.get_secret_value() if password else ""
    if settings.kafka_ca_file is not None:
        config["ssl.ca.location"] = str(settings.kafka_ca_file)
    return config
