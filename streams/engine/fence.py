"""Keeps a worker that the group has given up from starting tasks that others run by now (R5)."""

import time
from typing import Final

MARGIN_S: Final = 3.0
"""How long before its session ends a worker without heartbeats starts nothing new, in seconds."""


class Fence:
    """Up while no heartbeat has succeeded for the session timeout minus a margin.

    It is asked before each start and looks at the clock itself, because a process that was suspended runs nothing
    else first. Times are readings of the monotonic clock, in seconds. ``beat`` may be called in any thread.
    """

    __slots__ = ("_last", "_limit_s")

    def __init__(self, session_timeout_s: float) -> None:
        self._limit_s = session_timeout_s - MARGIN_S
        self._last = time.monotonic()

    def beat(self, sent: float) -> None:
        """The group's coordinator has answered a request that was sent at ``sent``."""
        self._last = sent

    @property
    def is_up(self) -> bool:
        """Whether nothing may start."""
        return time.monotonic() - self._last > self._limit_s
