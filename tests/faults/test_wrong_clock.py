"""A process whose clock is said to be wrong reads a wrong time, and only that."""

import subprocess
import sys
import time
from pathlib import Path

from tests.faults import wrong_clock

SCRIPT = """
import sys, time
from datetime import UTC, datetime, timedelta
import orjson
from schemas.events import now_micros
shown = orjson.loads(orjson.dumps(datetime.now(UTC)))
made = datetime(2020, 2, 3, tzinfo=UTC)
assert all(isinstance(each, datetime) for each in (datetime.now(UTC), datetime.fromisoformat(shown), made))
assert orjson.dumps(made) == b'"2020-02-03T00:00:00+00:00"'
print(sys.argv[1], now_micros() / 1e6, time.time(), datetime.fromisoformat(shown).timestamp(), time.monotonic())
"""


def test_every_reading_of_the_time_of_day_is_shifted_and_the_monotonic_clock_is_not(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(wrong_clock.__file__), "-3600", str(script), "argument"]
    began = time.time(), time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    ended = time.time(), time.monotonic()
    argument, *times, monotonic = done.stdout.split()
    assert argument == "argument"
    assert all(began[0] <= float(each) + 3600 <= ended[0] for each in times), (began, times, ended)
    assert began[1] <= float(monotonic) <= ended[1]
