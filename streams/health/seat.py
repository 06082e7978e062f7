"""Who publishes, of several monitors: the one to which the group's only partition is assigned.

It asks nothing of the database, so tiers are measured while that is away. For a moment two may think that they
have it, which does no harm: both measure the same, and the later word holds.
"""

from typing import Final

import structlog
from confluent_kafka import Consumer, TopicPartition

from streams.broker.connection import consumer_config
from streams.settings import Settings

_log = structlog.get_logger(__name__)

GROUP: Final = "webhook-monitor"
_MOST_EVENTS: Final = 100


class Seat:
    """A membership in the group ``webhook-monitor``. Everything is called by one thread, at least every few seconds."""

    def __init__(self, settings: Settings) -> None:
        self._consumer = Consumer(consumer_config(settings, GROUP))
        self.is_taken = False
        topic = settings.catalogue().control
        self._consumer.subscribe([topic], on_assign=self._assigned, on_revoke=self._gone, on_lost=self._gone)

    def attend(self) -> bool:
        """Take part in the group, and return whether this process has the seat now."""
        # The partition is paused, so what comes are changes of the group and errors that pass.
        for _ in range(_MOST_EVENTS):
            message = self._consumer.poll(0)
            if message is None:
                break
            _log.debug("the monitors' group reports", error=str(message.error()))
        return self.is_taken

    def leave(self) -> None:
        """Give the seat up; another monitor may have it at once."""
        self._consumer.close()
        self.is_taken = False

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.assign(partitions)
        if partitions:
            consumer.pause(partitions)
        self._set(bool(partitions))

    def _gone(self, consumer: Consumer, _partitions: list[TopicPartition]) -> None:
        consumer.unassign()
        self._set(False)

    def _set(self, is_taken: bool) -> None:
        if is_taken != self.is_taken:
            _log.info("this monitor publishes" if is_taken else "another monitor publishes, this one stands by")
        self.is_taken = is_taken
