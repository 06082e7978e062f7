"""How every command shows things: a table for people, JSON for programs, progress for what takes long."""

import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from streams.broker.jars import Report

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table.")]
"""The option every listing command has."""

PROGRESS_AFTER_S: Final = 2.0
_PIPE_WIDTH: Final = 400  # Where no terminal sets a width a row stays one line, for grep and the like.


def examples(*commands: str) -> str:
    """The examples at the end of a command's help, for applications with ``rich_markup_mode="rich"``."""
    return "\n\n[bold]Examples[/bold]\n\n" + "\n\n".join(f"  {escape(command)}" for command in commands)


def show(rows: Sequence[Mapping[str, object]], columns: Mapping[str, str], as_json: bool, empty: str) -> None:
    """Print rows as a table with ``columns`` (key: heading), or all their keys as one JSON array.

    Instead of a table without rows the line ``empty`` is printed. Values may be anything ``cell`` takes.
    """
    if as_json:
        show_json(rows)
        return
    if not rows:
        say(empty)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in columns.values():
        table.add_column(Text(heading), overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell(row.get(key))) for key in columns))
    terminal().print(table)


def show_json(value: object) -> None:
    """Print one JSON document; times are RFC 3339 in UTC."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE | orjson.OPT_PASSTHROUGH_DATETIME
    sys.stdout.write(orjson.dumps(value, default=_json_default, option=options).decode())
    sys.stdout.flush()


def say(text: str, style: str = "") -> None:
    """Print one line to standard output, coloured by ``style`` on a terminal only."""
    terminal().print(Text(cell(text), style), soft_wrap=True)


def note(text: str) -> None:
    """Print one line to standard error: what a program that reads the output should not see."""
    Console(stderr=True, highlight=False).print(escape(cell(text)), soft_wrap=True)


def cell(value: object) -> str:
    """A value as one line of text: times in the local zone, nothing for ``None``, no control characters.

    Text of tenants and upstreams reaches the terminal through here; an escape sequence in it must not.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return local_time(value)
    return "".join(each if _printable(each) else f"\\x{ord(each):02x}" for each in str(value))


def local_time(value: datetime) -> str:
    """A time to the millisecond in the local zone. A time without a zone is UTC, as databases give it."""
    return _aware(value).astimezone().isoformat(sep=" ", timespec="milliseconds")


def short_time(value: datetime) -> str:
    """A time of this year to the second in the local zone; without a zone it is UTC."""
    return f"{_aware(value).astimezone():%m-%d %H:%M:%S}"


def _aware(value: datetime) -> datetime:
    return value if value.tzinfo else value.replace(tzinfo=UTC)


@contextmanager
def progress() -> Iterator[Report]:
    """Give a function ``report(what, done, total)`` that draws a bar once two seconds have passed.

    On standard error and only on a terminal; a total of 0 means that it is not known.
    """
    console = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    task: TaskID | None = None
    began = bar.get_time()

    def report(what: str, done: int, total: int) -> None:
        nonlocal task
        if task is None:
            task = bar.add_task(what, total=total or None)
        bar.update(task, description=what, completed=done, total=total or None)
        if not bar.live.is_started and bar.get_time() - began >= PROGRESS_AFTER_S:
            bar.start()

    try:
        yield report
    finally:
        bar.stop()


def terminal() -> Console:
    """Standard output: coloured on a terminal only, and wide enough elsewhere that a row stays one line."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_PIPE_WIDTH)


def _printable(character: str) -> bool:
    return unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Zl", "Zp"}


def _json_default(value: object) -> object:
    if isinstance(value, datetime):
        return _aware(value).astimezone(UTC).isoformat().replace("+00:00", "Z")
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
