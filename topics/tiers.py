"""The six priority tiers: one row each, every number in one place."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Tier:
    """One of the six tiers.

    ``name`` is also its consumer group, ``topic`` its default topic, overridden by the environment variable
    ``environment``. ``tries`` is the number of attempts before an event leaves the tier, ``sleep_s`` the pause of an
    idle worker, ``retry_after_s`` the wait before the tier's exhausted work enters ``webhook-failed``'s or is retried
    there. ``warning_load`` and ``unhealthy_load`` are overdue records (``topics.health``).
    """

    name: str
    topic: str
    environment: str
    stands_for: str
    workers: int
    tries: int
    sleep_s: float
    retry_after_s: float
    warning_load: int = 50
    unhealthy_load: int = 200


HIGH: Final = Tier("webhook-high", "plugin-webhooks-high", "WEBHOOK_HIGH_QUEUE", "critical", 2, 3, 1, 60)
BEANSTALK: Final = Tier("webhook-beanstalk", "plugin-webhooks-tube", "WEBHOOK_BEANSTALK_QUEUE", "fast", 3, 3, 2, 90)
REDIS: Final = Tier("webhook-redis", "plugin-webhooks-fast", "WEBHOOK_REDIS_QUEUE", "immediate", 2, 3, 2, 90)
DB: Final = Tier("webhook-db", "plugin-webhooks", "WEBHOOK_DB_QUEUE", "reliable fallback", 2, 3, 3, 90)
LOW: Final = Tier("webhook-low", "plugin-webhooks-low", "WEBHOOK_LOW_QUEUE", "bulk", 1, 5, 5, 600)
FAILED: Final = Tier(
    "webhook-failed",
    "plugin-webhooks-failed",
    "WEBHOOK_FAILED_QUEUE",
    "retries of failed work",
    1,
    5,
    10,
    1800,
)

TIERS: Final[dict[str, Tier]] = {tier.name: tier for tier in (HIGH, BEANSTALK, REDIS, DB, LOW, FAILED)}
"""Every tier by name, from the most urgent to the least."""
