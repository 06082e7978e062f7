"""The catalogue: every topic with its partitions, retention, cleaning and record type. A topic is added here."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from topics.tiers import TIERS, Tier

DAY_MS: Final = 24 * 3600 * 1000
MIB: Final = 1024 * 1024
DEFAULT_PREFIX: Final = "plugin-webhooks"
DEFAULT_PARTITIONS: Final = 12
_COMPACT: Final[Mapping[str, str]] = {"segment.bytes": str(4 * MIB), "min.cleanable.dirty.ratio": "0.1"}
"""Kafka never compacts the segment it writes to, by default one of a GiB, and every role reads all at its start."""
_LEGAL_NAME: Final = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}")


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One topic as it should be. Times in milliseconds, sizes in bytes; ``record`` is its one record type."""

    name: str
    partitions: int
    retention_ms: int
    record: str
    cleanup: Literal["delete", "compact"] = "delete"
    max_message_bytes: int = MIB

    @property
    def subject(self) -> str:
        """The topic's subject in a schema registry."""
        return f"{self.name}-value"

    def config(self) -> dict[str, str]:
        """The topic's configuration in the broker's own words."""
        config = {
            "cleanup.policy": self.cleanup,
            "retention.ms": str(self.retention_ms),
            "max.message.bytes": str(self.max_message_bytes),
        }
        return {**config, **_COMPACT} if self.cleanup == "compact" else config


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All topics of one installation, and the names by which code refers to them."""

    changes: str
    requests: str
    scheduled: str
    events: str
    dead_letters: str
    control: str
    signals: str
    tier_topics: Mapping[str, str]
    specs: Mapping[str, TopicSpec]
    tier_by_topic: Mapping[str, str] = field(repr=False)

    def topic(self, tier: str) -> str:
        """Topic of a tier's first steps. Raises ``KeyError`` for an unknown tier."""
        return self.tier_topics[tier]

    def steps(self, tier: str) -> str:
        """Topic of a tier's later pipeline steps."""
        return self.tier_topics[tier] + ".steps"

    def tier(self, topic: str) -> Tier:
        """Tier of a tier topic or of its ``.steps`` topic. Raises ``KeyError`` for any other topic."""
        return TIERS[self.tier_by_topic[topic]]


def build_catalogue(
    prefix: str = DEFAULT_PREFIX,
    tier_topics: Mapping[str, str] | None = None,
    partitions: int = DEFAULT_PARTITIONS,
) -> Catalogue:
    """The catalogue for a prefix of shared topics, topic names that override a tier's own, and a partition count.

    Tiers, their steps, changes, requests and events have the same number of partitions, because what was taken from
    partition n of a tier finishes in partition n of events (DESIGN §5, item 5).
    Raises ``ValueError`` for a name that Kafka refuses and where two topics would share one.
    """
    names = {tier.name: (tier_topics or {}).get(tier.name, tier.topic) for tier in TIERS.values()}
    shared = {
        role: f"{prefix}.{role}"
        for role in ("changes", "requests", "scheduled", "events", "dead-letters", "control", "signals")
    }
    specs = [
        TopicSpec(shared["changes"], partitions, 14 * DAY_MS, "ModelChanged"),
        TopicSpec(shared["requests"], partitions, 14 * DAY_MS, "WebhookRequested"),
        TopicSpec(shared["scheduled"], partitions, 800 * DAY_MS, "TaskScheduled"),
        TopicSpec(shared["events"], partitions, 40 * DAY_MS, "TaskEvent"),
        TopicSpec(shared["dead-letters"], partitions, 90 * DAY_MS, "DeadLetter", max_message_bytes=MIB + 64 * 1024),
        TopicSpec(shared["control"], 1, -1, "ControlState", cleanup="compact"),
        TopicSpec(shared["signals"], 1, 3600 * 1000, "Signal"),
    ]
    for topic in names.values():
        specs.append(TopicSpec(topic, partitions, 14 * DAY_MS, "TaskReady"))
        specs.append(TopicSpec(f"{topic}.steps", partitions, 14 * DAY_MS, "TaskReady"))
    for spec in specs:
        if not _LEGAL_NAME.fullmatch(spec.name):
            raise ValueError(f"{spec.name!r} is no topic name: at most 249 letters, digits, dots, dashes, underscores")
    by_name = {spec.name: spec for spec in specs}
    if len(by_name) != len(specs):
        listed = sorted(spec.name for spec in specs)
        raise ValueError(f"two topics have the same name; give each tier a name of its own: {', '.join(listed)}")
    return Catalogue(
        changes=shared["changes"],
        requests=shared["requests"],
        scheduled=shared["scheduled"],
        events=shared["events"],
        dead_letters=shared["dead-letters"],
        control=shared["control"],
        signals=shared["signals"],
        tier_topics=names,
        specs=by_name,
        tier_by_topic={
            **{topic: tier for tier, topic in names.items()},
            **{f"{topic}.steps": tier for tier, topic in names.items()},
        },
    )
