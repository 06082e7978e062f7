"""Keeps one process's workers as `.control` says: paused while their tier is, ended by a request to restart (R18)."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog

from streams.background import OnCrash, run_in_background
from streams.control.brake import Brake
from streams.control.view import ControlView

_log = structlog.get_logger(__name__)

_LOOK_S: Final = 1.0
"""How often it looks without being told: a pause may end by itself."""


class WorkerControl:
    """Obeys for the tiers of ``brakes``. ``restart`` is called once, when a restart was asked for after its start.

    ``start`` and ``stop`` belong to the event loop on which the workers run; ``view`` must be current before.
    """

    def __init__(self, view: ControlView, brakes: Mapping[str, Brake], restart: Callable[[], None]) -> None:
        self._view = view
        self._brakes = brakes
        self._restart = restart
        self._epochs = {tier: view.restart_epoch(tier) for tier in brakes}
        self._task: asyncio.Task[None] | None = None
        self._restarting = False

    def start(self, on_crash: OnCrash) -> None:
        """Obey from now on; what holds already is obeyed when this returns."""
        loop = asyncio.get_running_loop()

        def changed(*_: Any) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._obey)

        self._obey()
        self._unsubscribe = self._view.subscribe(changed)
        self._task = run_in_background("worker-control", self._look(), on_crash)

    def stop(self) -> None:
        """Obey no longer."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
            self._unsubscribe()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            self._obey()

    def _obey(self) -> None:
        for tier, brake in self._brakes.items():
            is_paused = self._view.paused(tier)
            if is_paused != brake.paused:
                _log.info("tier paused" if is_paused else "tier resumed", tier=tier)
                brake.paused = is_paused
            if self._view.restart_epoch(tier) > self._epochs[tier] and not self._restarting:
                _log.info("a restart was asked for", tier=tier)
                self._restarting = True
                self._restart()
