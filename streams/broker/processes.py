"""Processes that outlive the command that started them: start, recognise, end."""

import os
import signal
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from streams.broker.runtime import process_runs

_PAUSE_S: Final = 0.05


def spawn(command: Sequence[str], log: Path) -> int:
    """Start a command in a session of its own, its output appended to ``log``; returns its process number.

    Unlike ``subprocess.Popen`` nothing here expects the process to end before this one does.
    """
    null = os.open(os.devnull, os.O_RDONLY)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, output, 1), (os.POSIX_SPAWN_DUP2, output, 2)]
        return os.posix_spawn(command[0], list(command), os.environ, file_actions=actions, setsid=True)
    finally:
        os.close(null)
        os.close(output)


def runs_with(pid: int, argument: str) -> bool:
    """Whether the process runs and has this argument: a number can belong to another process after a restart."""
    import psutil

    if not process_runs(pid):
        return False
    try:
        return argument in psutil.Process(pid).cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def end_processes(pids: Iterable[int], how: signal.Signals, timeout_s: float) -> None:
    """Send ``how`` to all of them, wait up to ``timeout_s``, then kill what still runs; collects own children."""
    left = list(pids)
    for pid in left:
        _send(pid, how)
    deadline = time.monotonic() + timeout_s
    while left and time.monotonic() < deadline:
        left = [pid for pid in left if not _ended(pid)]
        time.sleep(_PAUSE_S if left else 0)
    for pid in left:
        _send(pid, signal.SIGKILL)
    while left:
        left = [pid for pid in left if not _ended(pid)]
        time.sleep(_PAUSE_S if left else 0)


def _send(pid: int, how: signal.Signals) -> None:
    try:
        os.kill(pid, how)
    except ProcessLookupError:
        return


def _ended(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return not process_runs(pid)
