"""Heartbeats on `.signals`: what each worker does at this moment, told every second (R18)."""

import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import orjson
import structlog
from confluent_kafka import Message, Producer

from schemas.codec import decode_as, encode
from schemas.errors import Undecodable
from schemas.events import Micros, Signal, now_micros
from streams.background import OnCrash
from streams.broker.connection import producer_config
from streams.control.follower import TopicFollower
from streams.headers import record_headers
from streams.settings import Settings

_log = structlog.get_logger(__name__)

HEARTBEAT: Final = "heartbeat"
HEARTBEAT_S: Final = 1.0
EXPIRY_S: Final = 10.0
"""A worker that has not been heard of for so long is taken for gone."""

_LISTEN_S: Final = HEARTBEAT_S + 0.5

OLDEST: Final = 200
"""Running tasks that a heartbeat names, the oldest first."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """One worker of one tier. ``worker`` is the name that outcomes carry: ``host:process``.

    ``running`` tasks hold a place of ``window``, ``waiting`` records are fetched and not started. ``oldest`` are
    running tasks: event id, start and key. ``versions`` are the plugins', by id; ``accepts`` are the ranges of earlier
    versions whose runs they carry on. ``attempts`` have ended since the worker's start, ``faults`` of them by a fault
    of ours (``streams.agents.tally``).
    """

    worker: str
    tier: str
    started_at: Micros
    running: int
    window: int
    waiting: int
    paused: bool
    memory_bytes: int
    version: str
    partitions: list[int] = field(default_factory=list)
    oldest: list[tuple[str, Micros, str]] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    accepts: dict[str, str] = field(default_factory=dict)
    attempts: int = 0
    faults: int = 0


class SignalWriter:
    """Sends signals without waiting: what the brokers do not take in time is no longer true anyway."""

    def __init__(self, settings: Settings) -> None:
        self._topic = settings.catalogue().signals
        self._producer = Producer(
            {
                **producer_config(settings),
                "message.timeout.ms": int(EXPIRY_S * 1000),
                "queue.buffering.max.messages": 1000,
            }
        )

    def send(self, heartbeat: Heartbeat) -> None:
        """Hand a heartbeat to the producer; one that is full, or away from its brokers, drops it."""
        now = now_micros()
        signal = Signal(
            kind=HEARTBEAT,
            sender=f"{heartbeat.worker}/{heartbeat.tier}",
            value=orjson.dumps(asdict(heartbeat)).decode(),
            sent_at=now,
            expires_at=now + int(EXPIRY_S * 1_000_000),
        )
        try:
            self._producer.produce(self._topic, encode(signal), signal.sender.encode(), headers=record_headers(signal))
        except BufferError:
            _log.debug("a heartbeat is dropped, the brokers do not answer", sender=signal.sender)
        self._producer.poll(0)

    def close(self) -> None:
        """Let go of the connection."""
        self._producer.flush(1)


class SignalView:
    """The last heartbeat of each worker, kept current from ``start`` on. Any thread may read.

    Clocks of hosts are not compared: a worker's silence is measured from when it was heard here. Only what was sent
    before ``start`` is judged by its time.
    """

    def __init__(self, settings: Settings, on_crash: OnCrash, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heard: dict[tuple[str, str], tuple[float, Heartbeat]] = {}
        self._lock = threading.Lock()
        self._follower = TopicFollower(settings, settings.catalogue().signals, self._take, on_crash, since_s=EXPIRY_S)

    def start(self, timeout_s: float = 20.0) -> None:
        """Begin. Raises ``SetupError`` where the brokers do not answer in time."""
        self._follower.start(timeout_s)

    def stop(self) -> None:
        """End."""
        self._follower.stop()

    def heartbeats(self, tier: str | None = None) -> list[Heartbeat]:
        """Workers that were heard of lately, by tier and name."""
        limit = self._clock() - EXPIRY_S
        with self._lock:
            self._heard = {key: heard for key, heard in self._heard.items() if heard[0] > limit}
            found = [heartbeat for _, heartbeat in self._heard.values()]
        found.sort(key=lambda heartbeat: (heartbeat.tier, heartbeat.worker))
        return [heartbeat for heartbeat in found if tier in (None, heartbeat.tier)]

    def _take(self, message: Message) -> None:
        try:
            signal = decode_as(Signal, message.value() or b"")
            if signal.kind == HEARTBEAT:
                age_s = 0.0 if self._follower.at_end else max(0.0, (now_micros() - signal.sent_at) / 1_000_000)
                self._note(_heartbeat(orjson.loads(signal.value)), self._clock() - age_s)
        except (Undecodable, ValueError, TypeError) as error:
            _log.warning("a signal is not understood", offset=message.offset(), error=str(error))

    def _note(self, heartbeat: Heartbeat, heard_at: float) -> None:
        with self._lock:
            self._heard[heartbeat.worker, heartbeat.tier] = heard_at, heartbeat


def heard_workers(settings: Settings) -> list[Heartbeat]:
    """Who works now, by tier and name; takes a little longer than a heartbeat. Raises as ``SignalView.start``."""
    view = SignalView(settings, lambda _name, _error: None)
    view.start()
    try:
        # Whose clock is far off is heard of only now.
        time.sleep(_LISTEN_S)
        return view.heartbeats()
    finally:
        view.stop()


def _heartbeat(value: dict[str, Any]) -> Heartbeat:
    """The heartbeat in a signal, also of a newer version that tells more. Raises ``TypeError`` where it lacks some."""
    known = {name: value[name] for name in Heartbeat.__dataclass_fields__ if name in value}
    oldest = [(str(event_id), int(since), str(key)) for event_id, since, key in known.pop("oldest", ())]
    return Heartbeat(**known, oldest=oldest)
