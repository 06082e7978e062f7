"""What workers and `.control` say, for as long as somebody asks."""

import threading
import time
from contextlib import ExitStack
from typing import Final

from streams.control.log import follow_control
from streams.control.signals import HEARTBEAT_S, SignalView
from streams.control.view import ControlView
from streams.errors import SetupError
from streams.settings import Settings
from streams.waiting.reasons import Live

LISTEN_S: Final = HEARTBEAT_S + 0.2
"""After so long every worker has told of itself, whatever its clock says."""

_START_S: Final = 5.0
_AGAIN_S: Final = 10.0


class LiveSources:
    """Heartbeats and control states, followed from the first question on. Any thread may ask.

    ``view``: what this process follows already; else `.control` is followed here too.
    """

    def __init__(self, settings: Settings, view: ControlView | None = None) -> None:
        self._settings = settings
        self._given = view
        self._view = view or ControlView()
        self._signals: SignalView | None = None
        self._followers = ExitStack()
        self._lock = threading.Lock()
        self._not_before = 0.0

    def look(self) -> Live | None:
        """What is known at this moment; ``None`` where the brokers do not answer.

        That takes seconds to find out: for one caller, while the others are told ``None`` at once.
        """
        signals = self._signals or self._try_to_start()
        return None if signals is None else Live(self._view, signals.heartbeats())

    def close(self) -> None:
        """Follow no longer."""
        with self._lock:
            self._signals = None
            self._followers.close()

    def _try_to_start(self) -> SignalView | None:
        if not self._settings.bootstrap_servers or time.monotonic() < self._not_before:
            return None
        if self._lock.acquire(blocking=False):
            try:
                self._start()
            finally:
                self._lock.release()
        return self._signals

    def _start(self) -> None:
        self._followers.close()
        signals = SignalView(self._settings, self._crashed)
        try:
            if self._given is None:
                self._view = ControlView()
                control = follow_control(self._settings, self._view, self._crashed)
                control.start(_START_S)
                self._followers.callback(control.stop)
            signals.start(_START_S)
            self._followers.callback(signals.stop)
            self._signals = signals
        except SetupError:
            self._not_before = time.monotonic() + _AGAIN_S

    def _crashed(self, _name: str, _error: BaseException) -> None:
        # Followed anew at the next question; the thread that ends here cannot wait for itself.
        self._signals = None
