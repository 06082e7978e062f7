"""Two workers of one tier on a real Kafka: one is killed, or asked to stop, in the middle of its work."""

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path

import pytest

from streams.settings import Settings
from tests.streams.engine.workload import TIER, Reader, Seen, put, task_ready
from tests.support.waiting import eventually
from topics.catalogue import Catalogue

pytestmark = pytest.mark.kafka

TASKS = 3000
KEYS = 400
SLEEP_MS = 40


class Workers:
    """Worker processes and what they logged."""

    def __init__(self, settings: Settings, directory: Path) -> None:
        self._settings = settings.model_copy(update={"session_timeout_s": 6.0, "window": 40})
        self._directory = directory
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> subprocess.Popen[bytes]:
        log = self._directory / f"log.{len(self.processes)}"
        arguments = [self._settings.model_dump_json(), str(log), str(SLEEP_MS)]
        with (self._directory / f"err.{len(self.processes)}").open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.streams.engine.worker_process", *arguments], stdout=errors, stderr=errors
            )
        self.processes.append(process)
        return process

    def lines(self, number: int | None = None) -> list[tuple[str, str, float]]:
        """``(S or E, event, time)`` of one worker or of all, by time."""
        found: list[tuple[str, str, float]] = []
        for index in range(len(self.processes)):
            path = self._directory / f"log.{index}"
            if path.exists() and number in (None, index):
                for line in path.read_text().splitlines():
                    mark, event, at = line.split()
                    found.append((mark, event, float(at)))
        return sorted(found, key=lambda each: each[2])

    def started(self, number: int | None = None) -> list[str]:
        return [event for mark, event, _ in self.lines(number) if mark == "S"]


@contextmanager
def workers_on(settings: Settings, directory: Path) -> Iterator[Workers]:
    workers = Workers(settings, directory)
    try:
        yield workers
    finally:
        for process in workers.processes:
            if process.poll() is None:
                process.kill()
            process.wait()


def run_and_interrupt(settings: Settings, directory: Path, how: signal.Signals) -> tuple[Workers, Reader]:
    """Two workers share the tasks; the first one gets ``how`` once both have worked, then all must be recorded."""
    catalogue = settings.catalogue()
    with workers_on(settings, directory) as workers:
        first = workers.start()
        workers.start()
        reader = Reader(settings, catalogue.events)
        # A first few tasks show when both have partitions.
        warm = [(f"warm-{n}", task_ready(f"warm-{n}")) for n in range(200)]
        put(settings, catalogue.topic(TIER), warm)
        eventually(lambda: len(reader.read()) >= len(warm), 60, "first tasks done")
        put(settings, catalogue.topic(TIER), [(f"key-{n % KEYS}", task_ready(f"event-{n}")) for n in range(TASKS)])
        eventually(lambda: len(workers.started(0)) > 150 and len(workers.started(1)) > 150, 60, "both work")
        first.send_signal(how)
        wanted = TASKS + len(warm)
        eventually(lambda: len({seen.headers["identity"] for seen in outcomes(reader)}) >= wanted, 90, "all done")
        if how == signal.SIGTERM:
            assert first.wait(30) == 0
    return workers, reader


def outcomes(reader: Reader) -> list[Seen]:
    return [seen for seen in reader.read() if seen.headers["kind"] not in (b"claimed", b"released")]


def in_order_per_key(started: list[str]) -> bool:
    """Whether the first starts of each key's events rise."""
    last: dict[int, int] = {}
    seen: set[str] = set()
    for event in started:
        if event.startswith("event-") and event not in seen:
            seen.add(event)
            number = int(event.removeprefix("event-"))
            if last.get(number % KEYS, -1) > number:
                return False
            last[number % KEYS] = number
    return True


def test_a_killed_worker_loses_nothing_and_nothing_recorded_runs_again(
    kafka_settings: Settings, catalogue: Catalogue, tmp_path: Path
) -> None:
    workers, reader = run_and_interrupt(kafka_settings, tmp_path, signal.SIGKILL)
    recorded = Counter(seen.headers["identity"] for seen in outcomes(reader))
    assert len(recorded) == TASKS + 200
    assert max(recorded.values()) == 1
    killed = f":{workers.processes[0].pid}"
    twice = {event for event, count in Counter(workers.started()).items() if count > 1}
    assert not [
        each.event_id for each in reader.events() if each.event_id in twice and (each.worker or "").endswith(killed)
    ]
    assert len(twice) < 200
    assert in_order_per_key(workers.started())
    reader.close()


def test_a_stopped_worker_repeats_nothing(kafka_settings: Settings, catalogue: Catalogue, tmp_path: Path) -> None:
    workers, reader = run_and_interrupt(kafka_settings, tmp_path, signal.SIGTERM)
    recorded = Counter(seen.headers["identity"] for seen in outcomes(reader))
    assert len(recorded) == TASKS + 200
    assert max(recorded.values()) == 1
    assert max(Counter(workers.started()).values()) == 1
    assert in_order_per_key(workers.started())
    reader.close()


def test_a_worker_that_was_given_up_starts_nothing_that_others_have(
    kafka_settings: Settings, catalogue: Catalogue, tmp_path: Path
) -> None:
    topic = kafka_settings.catalogue().topic(TIER)
    with workers_on(kafka_settings, tmp_path) as workers:
        first = workers.start()
        reader = Reader(kafka_settings, catalogue.events)
        put(kafka_settings, topic, [(f"key-{n % KEYS}", task_ready(f"event-{n}")) for n in range(TASKS)])
        eventually(lambda: len(workers.started(0)) > 150, 60, "the first works")
        # Suspended until its session is over: what it holds goes to the second, which does it all.
        first.send_signal(signal.SIGSTOP)
        before = set(workers.started(0))
        workers.start()
        eventually(lambda: len(before | set(workers.started(1))) >= TASKS, 90, "the second has started the rest")
        eventually(lambda: len({seen.headers["identity"] for seen in outcomes(reader)}) >= TASKS, 60, "all done")
        first.send_signal(signal.SIGCONT)
        numbers = count()

        def is_back() -> bool:
            put(kafka_settings, topic, [(f"key-{n}", task_ready(f"late-{n}")) for n in islice(numbers, 20)])
            return any(each.startswith("late") for each in workers.started(0))

        eventually(is_back, 60, "the first is back")
        assert {each for each in workers.started(0) if each.startswith("event")} == before
    reader.close()
