"""What commands show, to people and to programs."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

import pytest

from streams.cli import console

NOON = datetime(2026, 11, 24, 12, 0, 0, 123_456, tzinfo=UTC)
COLUMNS = {"name": "NAME", "at": "AT"}


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("berlin")
def test_a_table_has_local_times_and_one_line_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    console.show([{"name": "x" * 150, "at": NOON, "hidden": 1}, {"name": None, "at": ""}], COLUMNS, False, "none")
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == ["NAME", "AT"]
    assert first.split(maxsplit=1) == ["x" * 150, "2026-11-24 13:00:00.123+01:00"]
    assert not second.strip()


def test_json_has_every_key_and_utc(capsys: pytest.CaptureFixture[str]) -> None:
    at = NOON.astimezone(timezone(timedelta(hours=5)))
    naive = NOON.replace(tzinfo=None)
    console.show([{"name": "a", "at": at, "hidden": 1}, {"name": "b", "at": naive}], COLUMNS, True, "none")
    first, second = json.loads(capsys.readouterr().out)
    assert first["hidden"] == 1
    # Whatever zone a database answers in, and where it leaves the zone out.
    assert first["at"] == second["at"] == "2026-11-24T12:00:00.123456Z"


def test_nothing_is_said_in_words_but_not_to_programs(capsys: pytest.CaptureFixture[str]) -> None:
    console.show([], COLUMNS, False, "Nothing there.")
    assert capsys.readouterr().out == "Nothing there.\n"
    console.show([], COLUMNS, True, "Nothing there.")
    assert json.loads(capsys.readouterr().out) == []


def test_text_of_others_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    console.show([{"name": "a\x1b]0;title\x07\n[red]b\u202e", "at": ""}], COLUMNS, False, "none")
    console.say("\x1b[2J[bold]said")
    console.note("\x1b[2J[bold]noted")
    printed = capsys.readouterr()
    assert "a\\x1b]0;title\\x07\\x0a[red]b\\x202e" in printed.out
    assert "\\x1b[2J[bold]said\n" in printed.out
    assert printed.err == "\\x1b[2J[bold]noted\n"
    assert "\x1b" not in printed.out + printed.err


@pytest.mark.parametrize(("value", "shown"), [(True, "yes"), (False, "no"), (None, ""), (0, "0"), ("Größe", "Größe")])
def test_cells(value: object, shown: str) -> None:
    assert console.cell(value) == shown


def test_progress_is_silent_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with console.progress() as report:
        report("working", 0, 0)
        report("working", 1, 2)
    assert capsys.readouterr() == ("", "")
