"""Roles under a supervisor, as an init system runs them: what ends by itself is started again."""

import signal
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Final

from tests.support.roles import Installation, Role

_LOOK_EVERY_S: Final = 0.05
_AGAIN_AFTER_S: Final = 1.0


class Unit:
    """One role, kept running until it is stopped for good."""

    def __init__(
        self, watch: "Supervisor", arguments: Sequence[str], extra: Mapping[str, str], prefix: Sequence[str]
    ) -> None:
        self.arguments = arguments
        self.extra = extra
        self.prefix = prefix
        self._watch = watch
        self.role: Role = watch.launch(self)

    @property
    def pid(self) -> int:
        return self.role.pid

    @property
    def is_running(self) -> bool:
        return self.role.process.poll() is None

    def kill(self) -> None:
        """``kill -9``."""
        self._watch.disturb(self.pid)
        self.role.kill()
        self._watch.note_end(self.pid)

    def start(self) -> None:
        """Start it again after ``kill`` or ``terminate``."""
        self.role = self._watch.launch(self)

    def terminate(self) -> None:
        """SIGTERM; returns at once."""
        self.role.ask_to_stop()

    def wait_terminated(self, timeout_s: float) -> int:
        """Wait for the end after ``terminate``; the exit code."""
        code = self.role.process.wait(timeout_s)
        self._watch.note_end(self.pid)
        return code

    def pause(self) -> None:
        """SIGSTOP: it is there and does nothing."""
        self._watch.disturb(self.pid)
        self.role.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.role.process.send_signal(signal.SIGCONT)

    def disturb(self) -> None:
        """Something happens to it that may make its tasks be repeated."""
        self._watch.disturb(self.pid)


class Supervisor:
    """Starts units and watches them.

    Monotonic times by process: ``ends``, when it was gone, ``disturbed``, since when its tasks may be repeated.
    """

    def __init__(self, roles: Installation, environment: Mapping[str, str]) -> None:
        self.units: list[Unit] = []
        self.ends: dict[int, float] = {}
        self.disturbed: dict[int, float] = {}
        self.exits: list[tuple[str, int]] = []
        self._roles = roles
        self._environment = environment
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self._thread.start()

    def add(self, *arguments: str, extra: Mapping[str, str] | None = None, prefix: Sequence[str] = ()) -> Unit:
        """Start a role and keep it running."""
        unit = Unit(self, arguments, extra or {}, prefix)
        self.units.append(unit)
        return unit

    def launch(self, unit: Unit) -> Role:
        """Start a unit's process."""
        return self._roles.start(*unit.arguments, extra={**self._environment, **unit.extra}, prefix=unit.prefix)

    def disturb(self, pid: int) -> None:
        """What this process was doing may be repeated."""
        self.disturbed.setdefault(pid, time.monotonic())

    def note_end(self, pid: int) -> None:
        """This process is gone by now."""
        self.ends.setdefault(pid, time.monotonic())

    def close(self) -> None:
        """Watch no longer."""
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(_LOOK_EVERY_S):
            for unit in list(self.units):
                role = unit.role
                if not role.expected_to_run or role.process.poll() is None:
                    continue
                if role.pid not in self.ends:
                    self.note_end(role.pid)
                    self.disturb(role.pid)
                    self.exits.append((role.name, role.process.returncode))
                if time.monotonic() - self.ends[role.pid] > _AGAIN_AFTER_S and not self._stop.is_set():
                    unit.start()
