"""Commands on `.signals` to move waiting records to another tier; the owner of their partition carries them out (R16).

They are not obeyed for ever: a command that nobody could carry out in its time says nothing about what waits later.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, TypeAlias

import orjson
import structlog
from confluent_kafka import Message

from schemas.codec import decode_as, encode
from schemas.errors import Undecodable
from schemas.events import Signal, now_micros
from streams.background import OnCrash
from streams.control.follower import TopicFollower
from streams.deliveries import deliver_once
from streams.engine.outcomes import Outgoing
from streams.headers import record_headers
from streams.settings import Settings
from topics.balance import SLICES
from topics.tiers import FAILED, TIERS

_log = structlog.get_logger(__name__)

MOVE: Final = "move"

LIFETIME_S: Final = 60.0
"""How long a command is obeyed where its sender does not say, in seconds."""

LONGEST_LIFETIME_S: Final = 600.0

_KEY: Final = b"move|"


@dataclass(frozen=True, slots=True)
class Move:
    """Move what waits in partition ``partition`` of tier ``tier`` below the offset ``up_to`` to tier ``target``.

    Only keys whose slice (``topics.balance.slice_of``) is at or beyond ``first_slice`` and below ``end_slice``.
    Raises ``ValueError`` for tiers between which nothing is moved, and for a slice or place that is none.
    """

    tier: str
    partition: int
    up_to: int
    target: str
    first_slice: int = 0
    end_slice: int = SLICES

    def __post_init__(self) -> None:
        for tier in (self.tier, self.target):
            if tier not in TIERS or tier == FAILED.name:
                known = ", ".join(name for name in TIERS if name != FAILED.name)
                raise ValueError(f"a move from or to {tier!r}: tiers between which records are moved are {known}")
        if self.tier == self.target:
            raise ValueError(f"a move from {self.tier} to itself; name another tier")
        if self.partition < 0 or self.up_to < 0:
            raise ValueError(f"a move of partition {self.partition} up to offset {self.up_to}: both begin at 0")
        if not 0 <= self.first_slice < self.end_slice <= SLICES:
            raise ValueError(f"a move of slices {self.first_slice} to {self.end_slice}: they lie in 0 to {SLICES}")


TakeMove: TypeAlias = Callable[[Move, float], None]
"""Called with a command and the reading of this process's monotonic clock up to which it is obeyed."""


def send_moves(settings: Settings, moves: Sequence[Move], by: str, lifetime_s: float = LIFETIME_S) -> None:
    """Tell the workers, and wait until all in-sync replicas have it. ``by`` says who asks.

    Raises ``KafkaException`` where the brokers refuse one or do not answer within 15 s, ``ValueError`` for a lifetime
    that is not above 0 and at most ten minutes.
    """
    if not 0 < lifetime_s <= LONGEST_LIFETIME_S:
        raise ValueError(f"lifetime_s is more than 0 and at most {LONGEST_LIFETIME_S:g}, not {lifetime_s!r}")
    topic = settings.catalogue().signals
    deliver_once(settings, (_record(topic, move, _signal(move, by, lifetime_s)) for move in moves))


class MoveFollower:
    """Hands every command that still holds to ``take``, in its thread, from ``start`` to ``stop``.

    Clocks of hosts are not compared: a command's life is counted from when it was heard here. Only what was sent
    before ``start`` is judged by its time.
    """

    def __init__(self, settings: Settings, take: TakeMove, on_crash: OnCrash) -> None:
        self._hand_on = take
        topic = settings.catalogue().signals
        self._follower = TopicFollower(settings, topic, self._take, on_crash, since_s=LONGEST_LIFETIME_S)

    def start(self) -> None:
        """Begin; blocks. Raises ``SetupError`` where the brokers do not answer in time."""
        self._follower.start()

    def stop(self) -> None:
        """End; blocks."""
        self._follower.stop()

    def _take(self, message: Message) -> None:
        if not (message.key() or b"").startswith(_KEY):
            return
        try:
            signal = decode_as(Signal, message.value() or b"")
            if signal.kind != MOVE or signal.expires_at is None:
                return
            age = 0 if self._follower.at_end else max(0, now_micros() - signal.sent_at)
            left_s = min((signal.expires_at - signal.sent_at - age) / 1_000_000, LONGEST_LIFETIME_S)
            if left_s > 0:
                self._hand_on(_move(orjson.loads(signal.value)), time.monotonic() + left_s)
        except (Undecodable, ValueError, TypeError) as error:
            _log.warning("a command to move records is not understood", offset=message.offset(), error=str(error))


def _record(topic: str, move: Move, signal: Signal) -> Outgoing:
    key = b"%b%b|%d" % (_KEY, move.tier.encode(), move.partition)
    return Outgoing(topic, encode(signal), key, record_headers(signal), 0)


def _signal(move: Move, by: str, lifetime_s: float) -> Signal:
    now = now_micros()
    value = orjson.dumps(asdict(move)).decode()
    return Signal(kind=MOVE, sender=by, value=value, sent_at=now, expires_at=now + int(lifetime_s * 1_000_000))


def _move(value: dict[str, Any]) -> Move:
    """The command in a signal, also of a newer version that says more. Raises ``TypeError`` where it lacks some."""
    return Move(**{name: value[name] for name in Move.__dataclass_fields__ if name in value})
