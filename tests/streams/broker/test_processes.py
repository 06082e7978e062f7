"""Processes that outlive their starter: recognised by argument, ended gently, then by force."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.broker.processes import end_processes, runs_with, spawn
from streams.broker.runtime import process_runs
from tests.support.waiting import eventually

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"
)
GENTLE = "import time; print('ready', flush=True); time.sleep(600)"


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[int]]:
    pids: list[int] = []
    yield pids
    end_processes([pid for pid in pids if process_runs(pid)], signal.SIGKILL, 10)


def start(started: list[int], log: Path, code: str, name: str) -> int:
    pid = spawn([sys.executable, "-c", code, name], log)
    started.append(pid)
    eventually(lambda: log.read_text() == "ready\n")
    return pid


def test_a_process_of_its_own_session_writes_to_its_log(started: list[int], tmp_path: Path) -> None:
    pid = start(started, tmp_path / "log", GENTLE, "first")
    assert os.getsid(pid) == pid != os.getsid(0)


def test_a_number_alone_does_not_make_it_the_same_process(started: list[int], tmp_path: Path) -> None:
    pid = start(started, tmp_path / "log", GENTLE, "first")
    assert runs_with(pid, "first")
    assert not runs_with(pid, "second")
    end_processes([pid], signal.SIGTERM, 10)
    assert not runs_with(pid, "first")


def test_what_does_not_end_in_time_is_killed(started: list[int], tmp_path: Path) -> None:
    pids = [start(started, tmp_path / "a", GENTLE, "a"), start(started, tmp_path / "b", STUBBORN, "b")]
    end_processes(pids, signal.SIGTERM, 0.5)
    assert [process_runs(pid) for pid in pids] == [False, False]


def test_a_process_that_ended_by_itself_is_no_error(started: list[int], tmp_path: Path) -> None:
    pid = start(started, tmp_path / "log", GENTLE, "first")
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    end_processes([pid], signal.SIGTERM, 60)
