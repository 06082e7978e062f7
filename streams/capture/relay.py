"""The relay: publishes the outbox and what is due in the schedule, in order, each row at least once (DESIGN §6).

One share of the work is one table of one database, or some slices of it. Each has its own thread, its own lock, and
its own producer: a database that is away holds up nothing but itself.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import uuid4

import structlog
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from streams.background import run_in_background
from streams.broker.connection import admin_config, consumer_config, producer_config
from streams.capture.budget import Budget
from streams.capture.crew import DatabaseCrew, NoTurns, Turn
from streams.capture.feeds import Feed, OutboxFeed, Unpublishable
from streams.capture.gates import FixedLimits, GateLimits
from streams.capture.leadership import Leadership, end_when_idle, leadership
from streams.capture.pace import Pace, crowding
from streams.capture.publishing import Publisher, Record
from streams.capture.refusals import Alarm, Refusal
from streams.capture.schedule_feed import ScheduleFeed
from streams.capture.takeover import LogEnds, Tenure, log_ends, published_rows
from streams.recovery import forget_finished
from streams.settings import Settings
from topics.catalogue import Catalogue

log = structlog.get_logger(__name__)

PROOF_TIMEOUT_S: Final = 5.0
_ENDS_EVERY_S: Final = 10.0
_RETRY_S: Final = 1.0
_MARK_RETRY_S: Final = 0.2
_FULL_PAUSE_S: Final = 0.05

_DATABASE_AWAY: Final = (DBAPIError, PoolTimeout)


@dataclass(frozen=True, slots=True)
class RelayOptions:
    """``epoch``: identity of Kafka's log (R20), asked of the brokers where ``None``.

    ``budget``: the embedded broker's room. With it published rows stay in the outbox until their events are final,
    and what is due in the schedule at the start goes out before the outbox: it is older.
    ``limits``: of what the schedule's gates let go (R15).
    ``proof_timeout_s``: a holder without a proof of its lock for so long stops; a new one waits twice that (R7).
    """

    epoch: str | None = None
    budget: Budget | None = None
    limits: GateLimits = field(default_factory=FixedLimits)
    proof_timeout_s: float = PROOF_TIMEOUT_S


class Relay:
    """Publishes from the outboxes of ``sources`` and from the schedule in ``schedule_engine``."""

    def __init__(
        self,
        settings: Settings,
        catalogue: Catalogue,
        sources: Sequence[Engine],
        schedule_engine: Engine,
        options: RelayOptions = RelayOptions(),
    ) -> None:
        self._crashes: list[BaseException] = []
        caught_up = threading.Event()
        embedded = options.budget is not None
        if not embedded:
            caught_up.set()
        schedule = ScheduleFeed(catalogue, options.limits)
        self._shares = [_Share(settings, catalogue, schedule, schedule_engine, options, NoTurns())]
        self._crews: list[DatabaseCrew] = []
        for source in sources:
            # A file has one writer at a time, and so one relay.
            count = settings.relay_slices if source.dialect.name == "postgresql" else 1
            crew = DatabaseCrew(source, count) if count > 1 else None
            self._crews += [crew] if crew else []
            for number in range(count):
                feed = OutboxFeed(catalogue, embedded, number, count)
                turn = crew.turn(number) if crew else NoTurns()
                self._shares.append(_Share(settings, catalogue, feed, source, options, turn))
        self._caught_up = caught_up

    def wake(self) -> None:
        """Look now: something was committed. Never blocks; any thread may call it."""
        for share in self._shares:
            share.wake()

    def run(self, stop: threading.Event) -> None:
        """Publish until ``stop`` is set. Blocks; a batch under way is finished first, for ``stop_grace_s`` at most.

        Waits for databases and brokers that are away, and for another relay that has the lock. Raises
        ``RuntimeError`` where a share crashed: the process should end.
        """
        ended = threading.Event()

        def crashed(_name: str, error: BaseException) -> None:
            self._crashes.append(error)
            ended.set()

        def going() -> bool:
            return not (stop.is_set() or ended.is_set())

        threads = [run_in_background("relay-crew", _follow(crew, going), crashed) for crew in self._crews]
        threads += [
            run_in_background(f"relay-{share.name}", _serve(share, going, self._caught_up), crashed)
            for share in self._shares
        ]
        for thread in threads:
            while thread.is_alive():
                if not going():
                    self.wake()
                thread.join(_FULL_PAUSE_S)
        if self._crashes:
            raise RuntimeError(f"the relay crashed: {self._crashes[0]}") from self._crashes[0]


def _serve(share: "_Share", going: Callable[[], bool], caught_up: threading.Event) -> Callable[[], None]:
    return lambda: share.serve(going, caught_up)


def _follow(crew: DatabaseCrew, going: Callable[[], bool]) -> Callable[[], None]:
    return lambda: crew.follow(going)


class _Share:
    """One table of one database: takes its lock, publishes while it holds it, and starts over."""

    def __init__(
        self,
        settings: Settings,
        catalogue: Catalogue,
        feed: Feed,
        engine: Engine,
        options: RelayOptions,
        turn: Turn,
    ) -> None:
        self.name = feed.name
        self._settings = settings
        self._catalogue = catalogue
        self._feed = feed
        self._engine = engine
        self._options = options
        self._turn = turn
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
        self._lock: Leadership = leadership(engine, feed.name, feed.lock_keys, options.proof_timeout_s)
        self._publisher = Publisher(producer_config(settings), options.budget)
        self._pace = Pace(settings.relay_batch)
        self._alarm = Alarm(feed.name, feed.shown_by)
        self._wake = threading.Event()
        # Only the system's database has the views that tell what is finished.
        self._keeps_rows = options.budget is not None and isinstance(feed, ScheduleFeed)
        self._full: set[str] = set()
        self._full_since = 0.0
        self._stopped_at: float | None = None

    def wake(self) -> None:
        self._wake.set()

    def serve(self, going: Callable[[], bool], caught_up: threading.Event) -> None:
        """Publish until ``going`` says no. Faults of databases and brokers are waited out."""
        first = isinstance(self._feed, ScheduleFeed)
        while going():
            try:
                if self._turn.may_take() and self._lock.acquire():
                    self._hold(going, caught_up, first)
            except _DATABASE_AWAY as error:
                log.warning("the relay's database is away", share=self.name, error=str(error))
            except KafkaException as error:
                log.warning("Kafka did not answer", share=self.name, error=str(error))
            finally:
                self._publisher.close()
                self._lock.release()
            self._pause(_RETRY_S, going)

    def _hold(self, going: Callable[[], bool], caught_up: threading.Event, first: bool) -> None:
        def leading() -> bool:
            return going() and self._lock.holds()

        with self._engine.connect() as connection:
            self._feed.check(connection)
        epoch = self._options.epoch or str(self._admin().list_topics(timeout=10).cluster_id)
        tenure = Tenure(self._engine, self._feed.tenures, epoch, self._holder)
        self._feed.begin()
        ends = self._take_over(tenure, leading)
        if ends is None:
            return
        tenure.begin(ends)
        self._publisher.open()
        log.info("the relay publishes", share=self.name, holder=self._holder)
        looked_at = time.monotonic()
        while leading() and not self._turn.must_leave():
            if not first and not caught_up.is_set():
                self._pause(_FULL_PAUSE_S, going)
                continue
            began, limit = time.monotonic(), self._pace.rows
            count = self._publish_batch(going)
            if count is None:
                # Rows are in doubt: whoever takes over, this one included, looks for them in the log.
                return
            if first and count == 0:
                caught_up.set()
            if time.monotonic() - looked_at > _ENDS_EVERY_S:
                self._note_progress(tenure)
                looked_at = time.monotonic()
            if count < limit:
                # Looks are so far apart, not pauses so long: what came during a batch has waited for it already.
                busy_s = time.monotonic() - began if count else 0.0
                self._pause(self._settings.relay_poll_ms / 1000 - busy_s, going)
        if self._lock.holds():
            tenure.sign_off()
        else:
            log.error("the relay's lock is not proved any more: it stops publishing", share=self.name)

    def _admin(self) -> AdminClient:
        # One for each question: after a broker's restart an older one answers FENCED_LEADER_EPOCH for ever.
        return AdminClient(admin_config(self._settings))

    def _note_progress(self, tenure: Tenure) -> None:
        """Shorten what a successor would have to read, and what an embedded start would have to go through."""
        try:
            tenure.advance(log_ends(self._admin(), self._catalogue, self._feed.topics))
        except KafkaException as error:
            log.warning("the ends of the log are not known now", share=self.name, error=str(error))
        self._alarm.tell({})
        with self._engine.begin() as connection:
            self._feed.tend(connection)
            if self._keeps_rows:
                forget_finished(connection)

    def _take_over(self, tenure: Tenure, leading: Callable[[], bool]) -> LogEnds | None:
        """Mark what a former holder published without marking it. Gives the present ends, ``None`` to give up (R7)."""
        start = tenure.unclean_ends()
        if start is not None:
            wait_s = 2 * self._options.proof_timeout_s
            log.warning("the former relay did not sign off: waiting before reading what it did", wait_s=wait_s)
            until = time.monotonic() + wait_s
            while leading() and time.monotonic() < until:
                self._pause(until - time.monotonic(), leading)
        ends = log_ends(self._admin(), self._catalogue, self._feed.topics)
        if start is None:
            return ends
        consumer = consumer_config(self._settings, "webhook-relay")
        rows = published_rows(consumer, self._feed.header, start, ends, leading)
        if not leading():
            return None
        with self._engine.begin() as connection:
            self._feed.mark(connection, rows)
        log.info("took over", share=self.name, records_read=len(rows))
        return ends

    def _publish_batch(self, going: Callable[[], bool]) -> int | None:
        """Publish the next rows; how many were dealt with, ``None`` where the fate of some is open."""
        if self._full and time.monotonic() - self._full_since > _FULL_PAUSE_S:
            self._full = set()
        with self._engine.connect() as connection:
            rows = self._feed.read(connection, self._pace.rows, self._full)
        if not rows:
            return 0
        began = time.monotonic()
        records: list[Record] = []
        refused: dict[str, Refusal] = {}
        for row in rows:
            try:
                records.append(self._feed.record(row))
            except Unpublishable as error:
                refused[self._feed.row_id(row)] = error.refusal
        report = self._publisher.publish(records, lambda: self._may_finish(going))
        if report.full:
            self._full |= report.full
            self._full_since = time.monotonic()
        refused.update(report.refused)
        self._alarm.tell(refused)
        marked = self._mark(report.acknowledged, refused, going)
        if report.failure is not None:
            log.error("the relay could not publish", share=self.name, error=report.failure)
        if not marked or report.failure is not None:
            return None
        crowd = crowding(rows, len(rows) // 2)
        others_wait = crowd is not None and any(row["tenant_id"] != crowd for row in rows)
        self._pace.took(time.monotonic() - began, len(rows), others_wait)
        return len(report.acknowledged) + len(refused)

    def _mark(self, acknowledged: Sequence[str], refused: dict[str, Refusal], going: Callable[[], bool]) -> bool:
        """Note what is in Kafka, as often as it takes; ``False`` where it could not before the lock was gone."""
        while True:
            try:
                with self._engine.begin() as connection:
                    end_when_idle(connection)
                    self._feed.mark(connection, acknowledged)
                    for identity, refusal in refused.items():
                        self._feed.park(connection, identity, refusal.reason)
            except _DATABASE_AWAY as error:
                log.warning("published rows are not marked yet", share=self.name, error=str(error))
                if not self._may_finish(going):
                    return False
                time.sleep(_MARK_RETRY_S)
            else:
                return True

    def _may_finish(self, going: Callable[[], bool]) -> bool:
        if going():
            return self._lock.holds()
        if self._stopped_at is None:
            self._stopped_at = time.monotonic()
        return self._lock.holds() and time.monotonic() - self._stopped_at < self._settings.stop_grace_s

    def _pause(self, seconds: float, going: Callable[[], bool]) -> None:
        if going():
            self._wake.wait(max(seconds, 0))
        self._wake.clear()
