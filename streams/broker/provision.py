"""Make a broker's topics what the catalogue says: compare, show, apply."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    OffsetSpec,
    ResourceType,
    TopicMetadata,
)
from confluent_kafka.cimpl import NewPartitions, NewTopic

from streams.errors import SetupError
from topics.catalogue import Catalogue, TopicSpec

_TIMEOUT_S: Final = 60.0
_PAUSE_S: Final = 0.1
_BROKER_DEFAULT: Final = -1
_NAMED: Final = 3


class Action(StrEnum):
    """What is done to a topic; a ``refused`` change is never made."""

    CREATE = "create"
    CONFIGURE = "configure"
    ADD_PARTITIONS = "add partitions"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between a broker's topic and the catalogue. ``present`` is empty where there is no topic.

    ``wanted`` and ``present`` are words for a person; ``partitions`` and ``config`` are what is sent to the broker.
    """

    topic: str
    action: Action
    present: str
    wanted: str
    reason: str = ""
    partitions: int = 0
    config: Mapping[str, str] = field(default_factory=dict)


def plan(admin: AdminClient, catalogue: Catalogue, replication_factor: int | None = None) -> list[Change]:
    """Everything that differs, in the catalogue's order; empty where nothing does. Changes nothing.

    Topics outside the catalogue are left alone. More partitions are refused for a topic that holds or held records:
    a key's records would come to lie in two partitions and lose their order. Fewer are never possible. With
    ``replication_factor`` (``None``: not looked at) a topic with another one is refused too.
    Raises ``SetupError`` where the broker does not answer or forbids it.
    """
    try:
        present = admin.list_topics(timeout=_TIMEOUT_S).topics
        known = [spec for spec in catalogue.specs.values() if spec.name in present]
        configs = _configs(admin, known)
        counts = {spec.name: len(present[spec.name].partitions) for spec in known}
        growing = [spec.name for spec in known if counts[spec.name] < spec.partitions]
        written = _written(admin, {topic: counts[topic] for topic in growing})
    except KafkaException as error:
        raise _refusal("The topics cannot be read", error) from error
    changes: list[Change] = []
    for spec in catalogue.specs.values():
        if spec.name not in present:
            wanted = f"{spec.partitions} partition(s), {_words(spec.config())}"
            changes.append(Change(spec.name, Action.CREATE, "", wanted, "", spec.partitions, spec.config()))
            continue
        partitions = present[spec.name].partitions
        changes += _partition_changes(spec, len(partitions), spec.name in written)
        changes += _config_changes(spec, configs[spec.name])
        replicas = len(partitions[0].replicas) if partitions else 0
        if replication_factor is not None and replicas != replication_factor:
            changes.append(
                Change(
                    spec.name,
                    Action.REFUSED,
                    f"{replicas} replica(s)",
                    f"{replication_factor} replica(s)",
                    "replicas are moved with Kafka's own kafka-reassign-partitions",
                )
            )
    return changes


def apply(admin: AdminClient, catalogue: Catalogue, replication_factor: int | None = None) -> list[Change]:
    """Make every change of the plan and return them; a second call has nothing to do.

    Raises ``SetupError`` before the first change where one is refused, and where the broker refuses one.
    """
    changes = plan(admin, catalogue, replication_factor)
    refused = [change for change in changes if change.action is Action.REFUSED]
    if refused:
        lines = [f"{each.topic}: {each.present}, wanted {each.wanted}: {each.reason}" for each in refused[:_NAMED]]
        lines += [f"{len(refused) - _NAMED} more topic(s)"] if len(refused) > _NAMED else []
        raise SetupError(
            "Nothing was changed, because of " + "; ".join(lines) + ".", "`webhook topics plan` shows all."
        )
    try:
        _create(admin, [each for each in changes if each.action is Action.CREATE], replication_factor)
        _add_partitions(admin, [each for each in changes if each.action is Action.ADD_PARTITIONS])
        _configure(admin, [each for each in changes if each.action is Action.CONFIGURE])
        _wait_until_done(admin, catalogue, replication_factor)
    except KafkaException as error:
        raise _refusal("Not every topic could be made or changed", error) from error
    return changes


def _partition_changes(spec: TopicSpec, present: int, written: bool) -> list[Change]:
    if present == spec.partitions:
        return []
    was, wanted = f"{present} partition(s)", f"{spec.partitions} partition(s)"
    if present > spec.partitions:
        reason = f"Kafka cannot take partitions away; set WEBHOOK_PARTITIONS to {present}, or delete the topic"
        return [Change(spec.name, Action.REFUSED, was, wanted, reason)]
    if written:
        reason = f"it has held records, whose keys would change partition; set WEBHOOK_PARTITIONS to {present}"
        return [Change(spec.name, Action.REFUSED, was, wanted, reason)]
    return [Change(spec.name, Action.ADD_PARTITIONS, was, wanted, "", spec.partitions)]


def _config_changes(spec: TopicSpec, present: Mapping[str, str]) -> list[Change]:
    differing = {key: value for key, value in spec.config().items() if present.get(key) != value}
    if not differing:
        return []
    was = _words({key: present.get(key, "") for key in differing})
    return [Change(spec.name, Action.CONFIGURE, was, _words(differing), config=differing)]


def _configs(admin: AdminClient, specs: Sequence[TopicSpec]) -> dict[str, dict[str, str]]:
    """Configuration in force of each topic."""
    if not specs:
        return {}
    resources = [ConfigResource(ResourceType.TOPIC, spec.name) for spec in specs]
    futures = admin.describe_configs(resources, request_timeout=_TIMEOUT_S)
    return {
        resource.name: {name: entry.value for name, entry in future.result(_TIMEOUT_S).items()}
        for resource, future in futures.items()
    }


def _written(admin: AdminClient, partitions: Mapping[str, int]) -> set[str]:
    """Topics that hold or held at least one record."""
    asked = {
        TopicPartition(topic, number): OffsetSpec.latest()
        for topic, count in partitions.items()
        for number in range(count)
    }
    if not asked:
        return set()
    deadline = time.monotonic() + _TIMEOUT_S
    while True:
        answers = admin.list_offsets(asked, request_timeout=_TIMEOUT_S)
        try:
            return {each.topic for each, future in answers.items() if future.result(_TIMEOUT_S).offset > 0}
        except KafkaException as error:
            # A topic made a moment ago has a leader that does not know it yet.
            if error.args[0].code() != KafkaError.NOT_LEADER_FOR_PARTITION or time.monotonic() > deadline:
                raise
        time.sleep(_PAUSE_S)


def _create(admin: AdminClient, changes: Sequence[Change], replication_factor: int | None) -> None:
    if not changes:
        return
    replicas = _BROKER_DEFAULT if replication_factor is None else replication_factor
    topics = [NewTopic(each.topic, each.partitions, replicas, config=dict(each.config)) for each in changes]
    for future in admin.create_topics(topics, operation_timeout=_TIMEOUT_S).values():
        # Another process that applies at the same time may have been faster; what it made is checked below.
        _result(future, ignored=KafkaError.TOPIC_ALREADY_EXISTS)


def _add_partitions(admin: AdminClient, changes: Sequence[Change]) -> None:
    if not changes:
        return
    wanted = [NewPartitions(each.topic, each.partitions) for each in changes]
    for future in admin.create_partitions(wanted, operation_timeout=_TIMEOUT_S).values():
        _result(future)


def _configure(admin: AdminClient, changes: Sequence[Change]) -> None:
    if not changes:
        return
    resources = [
        ConfigResource(
            ResourceType.TOPIC,
            each.topic,
            incremental_configs=[
                ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
                for key, value in each.config.items()
            ],
        )
        for each in changes
    ]
    for future in admin.incremental_alter_configs(resources, request_timeout=_TIMEOUT_S).values():
        _result(future)


def _wait_until_done(admin: AdminClient, catalogue: Catalogue, replication_factor: int | None) -> None:
    """Until the broker asked shows what was agreed to, and every partition has a leader: it learns a little later."""
    deadline = time.monotonic() + _TIMEOUT_S
    while True:
        left = plan(admin, catalogue, replication_factor)
        topics = admin.list_topics(timeout=_TIMEOUT_S).topics
        if not left and all(_has_leaders(topics[name]) for name in catalogue.specs):
            return
        if time.monotonic() > deadline:
            names = ", ".join(change.topic for change in left) or "leaders of some partitions"
            raise SetupError(f"Not in force {_TIMEOUT_S:.0f} s after the broker agreed: {names}.", "Check the brokers.")
        time.sleep(_PAUSE_S)


def _has_leaders(topic: TopicMetadata) -> bool:
    return all(partition.leader >= 0 for partition in topic.partitions.values())


def _result(future: "Future[Any]", ignored: int | None = None) -> None:
    try:
        future.result(_TIMEOUT_S)
    except KafkaException as error:
        if error.args[0].code() != ignored:
            raise


def _words(config: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in config.items())


def _refusal(what: str, error: KafkaException) -> SetupError:
    return SetupError(f"{what}: {error.args[0].str()}.", "Check the broker and this user's permissions (ACLs).")
