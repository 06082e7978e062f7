"""``WebhookQueueService``: the original product's questions to its queues, for programs. The same as two commands."""

from datetime import UTC, datetime
from typing import Any, NotRequired, TypedDict

from projections.daily import count_daily
from schemas.events import to_datetime
from streams.broker.runtime import resolve
from streams.database import opened_database
from streams.errors import SetupError
from streams.health.daily import by_date, first_day
from streams.health.reader import HealthReader
from streams.settings import Settings
from topics.health import Status
from topics.tiers import TIERS


class QueueHealth(TypedDict):
    """One tier. ``last_checked`` is a time in UTC as RFC 3339; ``error`` says why nothing is known."""

    status: Status
    load: int
    last_checked: str
    error: NotRequired[str]


class WebhookQueueService:
    """Reads health and metrics of the installation that ``settings`` name; by default the environment's. Blocks."""

    def __init__(self, settings: Settings | None = None) -> None:
        self._settings = settings or Settings()

    def get_queue_health(self) -> dict[str, QueueHealth]:
        """Health by tier: what the monitor says, or measured now where none runs.

        Where the brokers do not answer every tier is in ``error``. Raises ``SetupError`` where none are known.
        """
        settings = resolve(self._settings, database=False)
        try:
            with HealthReader(settings) as reader:
                states = reader.look()
        except SetupError as error:
            now = rfc3339(datetime.now(UTC))
            return {tier: {"status": "error", "load": 0, "last_checked": now, "error": error.message} for tier in TIERS}
        checked = rfc3339(to_datetime(states.measured_at))
        return {
            tier: {"status": state.status, "load": state.load, "last_checked": checked}
            for tier, state in states.tiers.items()
        }

    def get_queue_metrics(self, days: int = 7) -> dict[str, dict[str, dict[str, Any]]]:
        """``{date: {tier: {dispatched, completed, failed, event_types}}}``, see ``streams.health.daily``.

        Empty where ``WEBHOOK_QUEUE_MONITORING`` is off. Raises ``ValueError`` for days outside 1..366, and
        ``SetupError`` where the database cannot be used.
        """
        last = datetime.now(UTC).date()
        first = first_day(last, days)
        if not self._settings.queue_monitoring:
            return {}
        settings = resolve(self._settings, kafka=False)
        with opened_database(settings, read_only=True) as engine, engine.connect() as connection:
            return by_date(count_daily(connection, first, last), last, days)


def rfc3339(value: datetime) -> str:
    """The time in UTC, as every JSON document of this package has it."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
