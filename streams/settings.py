"""Every setting, in one place. Each field is read from the environment, ``WEBHOOK_`` and its name in capitals."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from handlers.addresses import AddressPolicy
from topics.catalogue import DEFAULT_PARTITIONS, DEFAULT_PREFIX, Catalogue, build_catalogue
from topics.tiers import TIERS


def _queue(environment: str, default: str) -> str:
    field: str = Field(default, validation_alias=environment, description="Topic of the tier.")
    return field


class Settings(BaseSettings):
    """All settings of all roles; ``webhook settings`` prints them with their sources."""

    model_config = SettingsConfigDict(
        env_prefix="WEBHOOK_", populate_by_name=True, extra="ignore", frozen=True, validate_default=True
    )

    # Where things are
    data_dir: Path = Field(Path(".webhook"), description="Directory of services, keys and the runtime file.")
    bootstrap_servers: str | None = Field(
        None,
        description="Kafka brokers, host:port separated by commas. Empty: the embedded or local broker that runs.",
    )
    database_url: SecretStr | None = Field(
        None,
        description="SQLAlchemy URL of the system and projection tables. Empty: of the embedded or local services.",
    )
    read_database_url: SecretStr | None = Field(None, description="URL of a read replica for queries.")
    outbox_database_urls: Annotated[list[SecretStr], NoDecode] = Field(
        [], description="Further databases with an outbox, separated by blanks."
    )
    schema_registry_url: str | None = Field(
        None,
        validation_alias=AliasChoices("SCHEMA_REGISTRY_URL", "WEBHOOK_SCHEMA_REGISTRY_URL"),
        description="Confluent-compatible schema registry; empty: the ids shipped with the package.",
    )

    # Kafka
    topic_prefix: str = Field(DEFAULT_PREFIX, description="Prefix of the shared topics.")
    partitions: int = Field(DEFAULT_PARTITIONS, ge=1, le=1000, description="Partitions of tiers and events.")
    replication_factor: int | None = Field(
        None, ge=1, le=9, description="Replicas of each topic made by `topics apply`; empty: the brokers' own default."
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How to talk to the brokers."
    )
    kafka_sasl_mechanism: str | None = Field(None, description="PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.")
    kafka_sasl_username: str | None = Field(None, description="SASL user.")
    kafka_sasl_password: SecretStr | None = Field(None, description="SASL password.")
    kafka_ca_file: Path | None = Field(None, description="PEM file of the authorities that sign the brokers.")
    high_queue: str = _queue("WEBHOOK_HIGH_QUEUE", TIERS["webhook-high"].topic)
    beanstalk_queue: str = _queue("WEBHOOK_BEANSTALK_QUEUE", TIERS["webhook-beanstalk"].topic)
    redis_queue: str = _queue("WEBHOOK_REDIS_QUEUE", TIERS["webhook-redis"].topic)
    db_queue: str = _queue("WEBHOOK_DB_QUEUE", TIERS["webhook-db"].topic)
    low_queue: str = _queue("WEBHOOK_LOW_QUEUE", TIERS["webhook-low"].topic)
    failed_queue: str = _queue("WEBHOOK_FAILED_QUEUE", TIERS["webhook-failed"].topic)

    # Engine
    window: int = Field(1000, ge=1, le=100_000, description="Tasks that run at the same time in one worker.")
    waiting_per_partition: int = Field(
        2000, ge=1, description="Records held in a worker, per partition, before it pauses."
    )
    waiting_bytes: int = Field(
        64 * 1024 * 1024, ge=1024, description="Bytes of records held in a worker before it pauses."
    )
    task_timeout_s: float = Field(30.0, gt=0, le=3600, description="Longest run of a task that names no timeout.")
    handler_threads: int = Field(
        32, ge=1, le=1000, description="Threads of a process for handlers that are plain functions."
    )
    clocks_apart_s: float = Field(
        60.0,
        ge=0,
        le=3600,
        description="How far hosts' clocks may differ: what is not found counts as not done only so much later.",
    )
    commit_interval_s: float = Field(0.5, gt=0, le=60, description="Time between commits of offsets.")
    breaker_failures: int = Field(
        10, ge=1, le=1000, description="Failed calls in a row that open the circuit to a tenant's upstream."
    )
    breaker_window_s: float = Field(60.0, gt=0, le=3600, description="Time within which they must have failed.")
    breaker_open_s: float = Field(
        10.0, gt=0, le=3600, description="Time until an open circuit's first probe; it doubles with each that fails."
    )
    breaker_longest_open_s: float = Field(300.0, gt=0, le=86_400, description="Longest time between two probes.")
    session_timeout_s: float = Field(10.0, ge=6, le=300, description="A worker silent for so long is taken for dead.")
    fetch_wait_ms: int = Field(
        500, ge=1, le=60_000, description="Longest wait of a fetch that finds nothing; the embedded broker takes 20."
    )
    linger_ms: int = Field(
        5, ge=0, le=1000, description="How long an outcome waits for others to go with it; the embedded broker takes 0."
    )
    stop_grace_s: float = Field(30.0, ge=0, le=3600, description="Time for running tasks after SIGTERM.")
    rebalance_grace_s: float = Field(
        1.0, ge=0, le=30, description="Time for running tasks when partitions are revoked."
    )

    dead_letters_per_minute: int = Field(
        300, ge=1, description="Unreadable records that a group gives up within a minute before its worker stops."
    )

    # Relay and projector
    relay_poll_ms: int = Field(20, ge=1, le=10_000, description="Pause between looks into the outbox and the schedule.")
    relay_batch: int = Field(500, ge=1, le=10_000, description="Rows published at a time.")
    relay_slices: int = Field(
        1,
        ge=1,
        le=16,
        description="Parts in which relays share each outbox in PostgreSQL; as many of them work side by side.",
    )
    outbox_limit_rows: int = Field(
        1_000_000,
        ge=0,
        description="Rows that wait to be published, from which on triggers are refused (503); 0: any number.",
    )
    tenant_gate_limit: int = Field(
        100, ge=1, le=100_000, description="A tenant's deferred tasks on their way at once, for a tenant of weight 1."
    )
    projector_batch: int = Field(8000, ge=1, le=50_000, description="Records written in one transaction.")

    # HTTP
    http_host: str = Field("127.0.0.1", description="Address that `serve` listens on.")
    http_port: int = Field(8420, ge=0, le=65535, description="Port that `serve` listens on; 0 takes a free one.")
    http_foreground_s: float = Field(
        30.0,
        ge=0,
        le=300,
        description="Longest wait of an HTTP request for its event's outcome; then the event goes on without it.",
    )
    http_token_rate_per_s: float = Field(
        500.0,
        ge=0,
        le=1_000_000,
        description="Requests, or items of a batch, that one token may send each `serve` in a second; 0: any number.",
    )
    http_source_rate_per_s: float = Field(
        500.0,
        ge=0,
        le=1_000_000,
        description="Signed deliveries that one inbound source may send each `serve` in a second; 0: any number.",
    )
    payload_limit_bytes: int = Field(256 * 1024, ge=1024, description="Largest payload of one event.")
    outbound_allow: Annotated[list[str], NoDecode] = Field(
        [],
        description="Hosts or networks that outbound calls may reach although they are private, separated by blanks.",
    )

    # Keys
    encryption_keys: SecretStr | None = Field(
        None,
        description="Keys of tenants' configuration: id:base64 pairs separated by blanks, the first one active.",
    )
    encryption_keys_file: Path | None = Field(
        None, description="File that holds the same; default: in the data directory."
    )

    # Names of the original product
    queue_monitoring: bool = Field(
        True, validation_alias="WEBHOOK_QUEUE_MONITORING", description="Keep and show metrics."
    )
    queue_connection: Literal["database", "redis", "beanstalkd", "kafka", "sync"] = Field(
        "database",
        validation_alias="QUEUE_CONNECTION",
        description="Accepted for compatibility; every queue is a topic.",
    )
    queue_failed_driver: str = Field(
        "database", validation_alias="QUEUE_FAILED_DRIVER", description="Accepted for compatibility."
    )
    beanstalkd_host: str | None = Field(
        None, validation_alias="BEANSTALKD_HOST", description="Not used; a warning is printed."
    )

    # Logs
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe level that is logged."
    )
    log_format: Literal["auto", "json", "text"] = Field("auto", description="auto: text on a terminal, JSON elsewhere.")

    @field_validator("outbox_database_urls", "outbound_allow", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return value.split() if isinstance(value, str) else value

    @field_validator("outbound_allow")
    @classmethod
    def _hosts_and_networks(cls, value: list[str]) -> list[str]:
        AddressPolicy(value)
        return value

    def catalogue(self) -> Catalogue:
        """The topics under these settings. Raises ``ValueError`` where two would share a name."""
        queues = (
            self.high_queue,
            self.beanstalk_queue,
            self.redis_queue,
            self.db_queue,
            self.low_queue,
            self.failed_queue,
        )
        return build_catalogue(self.topic_prefix, dict(zip(TIERS, queues, strict=True)), self.partitions)
