"""Carries a replay out, no faster than it may and never so much at once that live work waits behind it."""

import threading
import time
from collections.abc import Callable
from typing import Final

from streams.replay.jobs import Replay, Replays

_MOST_AT_ONCE: Final = 200
_PIECES_A_SECOND: Final = 10
_ROOM_PAUSE_S: Final = 0.1


def carry_out(
    replays: Replays,
    job_id: str,
    stop: threading.Event,
    report: Callable[[Replay], None],
    most_under_way: int,
) -> Replay:
    """Go on with a replay until it is done, paused or cancelled, or ``stop`` is set; ``report`` is told of each piece.

    While ``most_under_way`` replayed events have not ended, it waits: a tier then never has more of them before a live
    one. Raises ``NoSuchReplay``.
    """
    replay = replays.find(job_id)
    began, begun_with = time.monotonic(), replay.dealt_with
    while replay.state == "running" and not stop.is_set():
        room = most_under_way - replays.under_way()
        if room <= 0:
            stop.wait(_ROOM_PAUSE_S)
            replay = replays.find(job_id)
            report(replay)
            # What could not be done in that time is not made up for in a burst.
            began, begun_with = time.monotonic(), replay.dealt_with
            continue
        piece = max(1, min(replay.rate // _PIECES_A_SECOND, _MOST_AT_ONCE, room))
        replay = replays.advance(job_id, piece)
        report(replay)
        if replay.state == "running":
            due_in_s = (replay.dealt_with - begun_with) / replay.rate - (time.monotonic() - began)
            stop.wait(max(0.0, due_in_s))
    return replay
