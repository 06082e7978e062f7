"""Sends waiting records on to another tier, in the order of their keys, as the owner of their partition (R16).

Who else read and re-published them could not know what of them has been started, and an event would run twice.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from typing import Final

import structlog

from schemas.codec import encode
from schemas.errors import Undecodable
from schemas.events import now_micros
from streams.agents.acceptance import LANE
from streams.agents.going_on import going_on_event, let_go_on
from streams.agents.tier_records import TierTask, repeat_header
from streams.agents.tier_state import TierState
from streams.control.moves import Move
from streams.engine.decide import RECONCILE
from streams.engine.lanes import Lane
from streams.engine.outcomes import Outgoing
from streams.headers import record_headers
from topics.balance import slice_of, targets

_log = structlog.get_logger(__name__)

AT_ONCE: Final = 500
"""Records that one round sends on, so that the loop's other work gets its turn."""


class Moving:
    """Carries out commands of one worker's tier, on its event loop."""

    def __init__(self, state: TierState) -> None:
        self._state = state
        self._moves: list[tuple[Move, float]] = []
        self._targets = lru_cache(maxsize=4096)(targets)
        self.may_send: Callable[[str, int], bool] = _always
        """Asked before each record, by topic and partition, where the brokers' room is small (R21)."""

    def ask(self, move: Move, until: float) -> None:
        """Obey a command up to ``until`` of the monotonic clock; it may be about partitions of other workers."""
        if move.tier != self._state.tier.name:
            return
        _log.info("records are to be moved", tier=move.tier, partition=move.partition, target=move.target)
        self._moves.append((move, until))
        self.go_on()

    def go_on(self) -> None:
        """Send on what waits now; called again and again, for what is fetched later."""
        if not self._moves:
            return
        now = time.monotonic()
        self._moves = [(move, until) for move, until in self._moves if until > now]
        state = self._state
        if state.brake.is_on or state.fence.is_up:
            return
        left = AT_ONCE
        for lane in state.lanes.untouched():
            move = self._move_of(lane)
            if move is None:
                continue
            topic = state.catalogue.topic(move.target)
            for item in self._movable(lane, move)[:left]:
                if not self.may_send(topic, move.partition):
                    break
                self._forward(item, move.target)
                left -= 1
            if not left:
                return

    def _move_of(self, lane: Lane) -> Move | None:
        """The command that is about a lane's first record."""
        item = lane.first[0]
        if not isinstance(item, TierTask) or item.partition.closed or item.partition.is_careful:
            return None
        number = item.partition.number
        for move, _ in self._moves:
            if move.partition == number and move.first_slice <= slice_of(item.record.key or b"") < move.end_slice:
                return move
        return None

    def _movable(self, lane: Lane, move: Move) -> list[TierTask]:
        """Records of a lane that may go, in their order.

        What the log knows already is settled first, and nothing of its key goes before it: it may be claimed, or have
        gone on before the last owner died.
        """
        found: list[TierTask] = []
        for item in lane.first:
            if not isinstance(item, TierTask) or item.record.offset >= move.up_to:
                break
            try:
                if not item.identity:
                    item.read()
            except Undecodable:
                break
            ledger = item.partition.ledger
            if ledger.knows(item.source, item.identity) or item.repeat_from or item.identity in self._state.started:
                break
            if self._may_go(item, move.target):
                found.append(item)
        return found

    def _may_go(self, item: TierTask, target: str) -> bool:
        """Strict keys have a home, and what a gate let go is counted where it went (R12, R15)."""
        task = item.task
        if task.gate is not None or LANE in task.options or RECONCILE in task.options:
            return False
        return target in self._targets(task.event_type, task.priority, self._state.tier.name)

    def _forward(self, item: TierTask, target: str) -> None:
        state = self._state
        state.lanes.withdraw(item)
        item.started_at = now_micros()
        topic = state.catalogue.topic(target)
        event = going_on_event(state, item, "moved", target, topic)
        let_go_on(state, item, event, partial(moved_record, item, topic), topic)


def _always(_topic: str, _number: int) -> bool:
    """Where the brokers have room for all that is sent."""
    return True


def moved_record(item: TierTask, topic: str, repeat_from: int | None = None) -> Outgoing:
    """The record as it goes on, equal each time it is made.

    ``repeat_from``: offset of the record of `.events` that says so, where it is produced again (R1).
    """
    task = replace(item.task, dispatch_seq=item.task.dispatch_seq + 1)
    headers = record_headers(task, traceparent=item.traceparent)
    headers += repeat_header(item, repeat_from)
    return Outgoing(topic, encode(task), item.record.key, headers)
