"""Follows a topic of one partition in a thread of its own: `.control` from its beginning, `.signals` from lately."""

import threading
from collections.abc import Callable
from typing import Final

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from schemas.events import now_micros
from streams.background import OnCrash, run_in_background
from streams.broker.connection import consumer_config
from streams.broker.runtime import is_embedded
from streams.errors import SetupError
from streams.settings import Settings

_log = structlog.get_logger(__name__)

_BATCH: Final = 500
_POLL_S: Final = 0.1
_PAUSE_S: Final = 0.05
_ANSWER_S: Final = 10.0
_END_S: Final = 20.0


class TopicFollower:
    """Hands every record of a topic to ``take``, in order, in its thread.

    ``since_s``: only records of the last so many seconds, as far as the broker can tell; ``None``: all there are.
    ``on_crash`` is called in the thread with what stopped it.
    """

    def __init__(
        self,
        settings: Settings,
        topic: str,
        take: Callable[[Message], None],
        on_crash: OnCrash,
        since_s: float | None = None,
    ) -> None:
        # An empty fetch of the embedded broker takes all of its wait; more often than this nobody needs to ask.
        waits = {"fetch.wait.max.ms": max(100, settings.fetch_wait_ms)}
        self._config = {**consumer_config(settings, f"{topic}-reader"), **waits, "enable.partition.eof": True}
        self._topic = topic
        self._take = take
        self._on_crash = on_crash
        self._since_s = since_s
        self._is_embedded = is_embedded(settings)
        self._end = 0
        self._at_end = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, timeout_s: float = _END_S) -> None:
        """Begin, and return when the present end was reached. Raises ``SetupError`` where it is not in time."""
        self._thread = run_in_background(f"{self._topic}-reader", self._run, self._on_crash)
        if not self._at_end.wait(timeout_s):
            self.stop()
            raise SetupError(
                f"Topic {self._topic} could not be read to its end within {timeout_s:g} s.",
                "Check the brokers; `webhook topics check` shows whether the topic is as it should be.",
            )

    @property
    def at_end(self) -> bool:
        """Whether what was there at the start has been read."""
        return self._at_end.is_set()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_END_S)

    def _run(self) -> None:
        consumer = Consumer(self._config)
        try:
            first, self._end = self._bounds(consumer)
            if first >= self._end:
                self._at_end.set()
            consumer.assign([TopicPartition(self._topic, 0, first)])
            while not self._stop.is_set():
                for message in consumer.consume(_BATCH, _POLL_S):
                    self._receive(message)
        finally:
            consumer.close()

    def _bounds(self, consumer: Consumer) -> tuple[int, int]:
        """Where to begin, and the present end.

        The end is asked for, because a reader notices it only by an empty fetch, and where many write there is none.
        """
        place = TopicPartition(self._topic, 0)
        while not self._stop.wait(_PAUSE_S):
            try:
                found = consumer.get_watermark_offsets(place, timeout=_ANSWER_S)
                if found is None:
                    continue
                low, high = found
                if self._since_s is None or self._is_embedded:
                    # The embedded broker finds no offsets by time; it holds little anyway.
                    return low, high
                place.offset = now_micros() // 1000 - int(self._since_s * 1000)
                lately = int(consumer.offsets_for_times([place], timeout=_ANSWER_S)[0].offset)
                return (high if lately < 0 else lately), high
            except KafkaException as error:
                # A topic that was just made has no leader yet, or another one than a moment ago.
                _log.debug("asking where a topic ends", topic=self._topic, error=str(error))
        return 0, 0

    def _receive(self, message: Message) -> None:
        error = message.error()
        if error is None:
            self._take(message)
            if message.offset() + 1 >= self._end:
                self._at_end.set()
        elif error.code() == KafkaError._PARTITION_EOF:
            self._at_end.set()
        elif error.fatal():
            raise KafkaException(error)
        else:
            _log.warning("reading a topic", topic=self._topic, error=error.str())
