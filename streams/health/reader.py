"""How the tiers are, for who asks: what a monitor has published, or where none runs, measured here."""

import time
from contextlib import ExitStack
from types import TracebackType
from typing import Final, Self

from confluent_kafka import KafkaException

from schemas.events import ControlState
from streams.broker.connection import admin_client
from streams.control.log import follow_control
from streams.control.signals import SignalView
from streams.control.view import ControlView
from streams.database import open_database
from streams.errors import SetupError
from streams.health.meter import HealthMeter
from streams.health.snapshots import told_states
from streams.health.states import TierStates
from streams.settings import Settings

_PATIENCE_S: Final = 15.0
_AGAIN_S: Final = 0.2


class HealthReader:
    """A context in which the tiers may be looked at again and again.

    ``settings`` are resolved; where they name no database, or it is away, waits are not counted. Entering raises
    ``SetupError`` where no broker answers.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._view = ControlView()
        self._meter: HealthMeter | None = None
        self._open = ExitStack()

    def __enter__(self) -> Self:
        admin_client(self._settings)
        control_log = follow_control(self._settings, self._view, lambda _name, _error: None)
        control_log.start()
        self._open.callback(control_log.stop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open.close()

    def look(self) -> TierStates:
        """How the tiers are now. Blocks. Raises ``SetupError`` where the brokers stop answering."""
        told = told_states(self._view)
        if told is not None:
            return told
        until = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return self._own_meter().look()
            except KafkaException as error:
                # A group whose coordinator has just moved, or has never been asked for, has one in a moment.
                if time.monotonic() < until:
                    time.sleep(_AGAIN_S)
                    continue
                what = f"The tiers cannot be measured: {error.args[0].str()}."
                raise SetupError(what, "Check the brokers, then ask again.", exit_code=1) from error

    @property
    def measures(self) -> bool:
        """Whether the last look was measured here, because no monitor runs."""
        return told_states(self._view) is None

    def pause_of(self, tier: str) -> ControlState | None:
        """The pause that holds for a tier, with who asked for it and why."""
        return self._view.pause_of(tier)

    def _own_meter(self) -> HealthMeter:
        if self._meter is None:
            signals = SignalView(self._settings, lambda _name, _error: None)
            signals.start()
            self._open.callback(signals.stop)
            engine = None
            if self._settings.database_url is not None:
                engine = open_database(self._settings, read_only=True)
                self._open.callback(engine.dispose)
            self._meter = HealthMeter(self._settings, signals.heartbeats, self._view, engine)
            self._open.callback(self._meter.close)
        return self._meter
