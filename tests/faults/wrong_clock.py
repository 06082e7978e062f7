"""Runs a Python command with a clock that is wrong: ``python wrong_clock.py SECONDS SCRIPT [ARGUMENT...]``.

What Python code reads as the time of day is shifted: ``time.time``, ``time.time_ns``, ``datetime``. The monotonic
clock is right, as it is on any host. Compiled libraries read the clock themselves and see the right time: librdkafka
stamps records with it, which no one reads.
"""

import datetime
import runpy
import sys
import time
from typing import Any, Final

_NS: Final = 1_000_000_000


def shift(seconds: float) -> None:
    """From now on this process reads a time of day that is ``seconds`` ahead, behind where negative."""
    right, right_ns = time.time, time.time_ns
    time.time = lambda: right() + seconds
    time.time_ns = lambda: right_ns() + round(seconds * _NS)
    datetime.datetime = _shifted(datetime.timedelta(seconds=seconds))  # type: ignore[misc]


def _shifted(by: datetime.timedelta) -> type[datetime.datetime]:
    right: Any = datetime.datetime

    class AnyDatetime(type):
        """What compiled libraries make are datetimes too."""

        def __instancecheck__(cls, value: object) -> bool:
            return isinstance(value, right)

        def __call__(cls, *arguments: Any, **named: Any) -> Any:
            return right(*arguments, **named)

    class Datetime(right, metaclass=AnyDatetime):  # type: ignore[misc]
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Any:
            return right.now(tz) + by

        @classmethod
        def utcnow(cls) -> Any:
            return right.now(datetime.UTC).replace(tzinfo=None) + by

        @classmethod
        def today(cls) -> Any:
            return right.now() + by

    return Datetime


if __name__ == "__main__":
    shift(float(sys.argv[1]))
    del sys.argv[:2]
    runpy.run_path(sys.argv[0], run_name="__main__")
