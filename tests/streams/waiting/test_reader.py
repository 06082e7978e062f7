"""Pages of waiting events: what is asked for, in order, and nobody twice."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from projections.migrate import upgrade
from schemas.events import from_datetime
from streams.control.signals import Heartbeat
from streams.database import create_database_engine
from streams.settings import Settings
from streams.waiting.reader import Asked, UnknownEvent, WaitingReader
from streams.waiting.reasons import Live
from streams.waiting.sources import LiveSources
from tests.projections.test_waiting import LATER, START, event, wait
from tests.streams.waiting.test_reasons import PAUSED, TIER, beat, control

LOW = "webhook-low"


class Sources(LiveSources):
    """What is known is set by the test."""

    live: Live | None = None

    def look(self) -> Live | None:
        """See ``LiveSources``."""
        return self.live


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_database_engine(f"sqlite:///{tmp_path / 'views.db'}")
    upgrade(engine)
    with engine.begin() as connection:
        for number in range(6):
            tier, accepted_at = (TIER, LOW)[number % 2], START + timedelta(seconds=number)
            # Of two rows: e0 and e3 about one, the others about another each.
            about = {"model": "Order", "model_id": str(number % 3)}
            event(connection, f"e{number}", "accepted", tier=tier, accepted_at=accepted_at, **about)
        wait(connection, "e1", kind="delay")
        event(connection, "ended", "completed", tier=TIER)
        event(connection, "foreign", "accepted", tier=TIER, tenant_id="8", accepted_at=LATER)
    yield engine
    engine.dispose()


@pytest.fixture
def reader(engine: Engine, settings: Settings) -> WaitingReader:
    return WaitingReader(engine, Sources(settings))


def say(reader: WaitingReader, *beats: Heartbeat, paused: bool = False) -> None:
    assert isinstance(reader.sources, Sources)
    reader.sources.live = Live(control(PAUSED) if paused else control(), beats)


def listed(reader: WaitingReader, asked: Asked = Asked(), limit: int = 100) -> dict[str, tuple[str, int | None]]:  # noqa: B008
    return {each.event_id: (each.reason, each.place) for each in reader.page(asked, limit).waiting}


def test_without_the_brokers_the_tables_are_told(reader: WaitingReader) -> None:
    page = reader.page()
    assert (page.live, page.next) == (False, None)
    assert [(each.event_id, each.reason, each.place) for each in page.waiting] == [
        ("e0", "nth_in_tier", 1),
        ("e1", "due_at", None),
        ("e2", "nth_in_tier", 2),
        ("e3", "nth_in_tier", 1),
        ("e4", "nth_in_tier", 3),
        ("e5", "nth_in_tier", 2),
        ("foreign", "nth_in_tier", 4),
    ]


def test_workers_and_control_are_heard(reader: WaitingReader) -> None:
    say(reader, beat("e3", START, tier=LOW, key="7|Order|0"), beat("e0", LATER, key="7|Order|0"), paused=True)
    assert listed(reader) == {
        "e0": ("running", None),
        "e1": ("due_at", None),
        "e2": ("paused", None),
        "e3": ("running", None),
        "e4": ("paused", None),
        "e5": ("nth_in_tier", 1),
        "foreign": ("paused", None),
    }


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("running", ["e2"]),
        ("key_busy", ["e5"]),
        ("due_at", ["e1"]),
        ("paused", ["e0", "e4", "foreign"]),
        ("nth_in_tier", ["e3"]),
        ("circuit", []),
    ],
)
def test_each_reason_can_be_asked_for(reader: WaitingReader, reason: str, expected: list[str]) -> None:
    say(reader, beat("e2", START, tier=TIER, key="7|Order|2"), beat("x", START, tier=LOW, key="7|Order|2"), paused=True)
    assert list(listed(reader, Asked(reason=reason))) == expected  # type: ignore[arg-type]
    first, rest = expected[:1], expected[1:]
    assert list(listed(reader, Asked(reason=reason), limit=1)) == first  # type: ignore[arg-type]
    if first:
        assert list(listed(reader, Asked(reason=reason, after=first[0]))) == rest  # type: ignore[arg-type]


def test_pages_follow_each_other(reader: WaitingReader) -> None:
    found, asked = [], Asked(tenant_id="7")
    while (page := reader.page(asked, 2)).next is not None:
        found += [each.event_id for each in page.waiting]
        asked = Asked(tenant_id="7", after=page.next)
    assert found == [f"e{number}" for number in range(6)]
    assert [each.event_id for each in reader.page(Asked(tier=LOW)).waiting] == ["e1", "e3", "e5"]
    with pytest.raises(UnknownEvent):
        reader.page(Asked(tenant_id="7", after="foreign"))


def test_what_is_rare_is_looked_for_page_by_page(reader: WaitingReader, monkeypatch: pytest.MonkeyPatch) -> None:
    """One answer does not go through a million events that wait for something else."""
    monkeypatch.setattr("streams.waiting.reader.MAX_LIMIT", 2)
    monkeypatch.setattr("streams.waiting.reader._MOST_LOOKS", 1)
    say(reader, beat("x", START, tier=LOW, key="7|Order|2"))
    asked, pages = Asked(reason="key_busy"), []
    while True:
        page = reader.page(asked)
        pages.append([each.event_id for each in page.waiting])
        if page.next is None:
            break
        asked = Asked(reason="key_busy", after=page.next)
    # The delayed e1 is in no tier, so it is not looked at.
    assert pages == [[], [], ["e5"], []]


def test_one_event(reader: WaitingReader) -> None:
    say(reader, beat("e0", LATER, key="7|Order|0"))
    found = reader.event("e4")
    assert found.waiting is not None
    assert (found.waiting.reason, found.waiting.place) == ("nth_in_tier", 2)
    # As long as it is in a tier for the tables it runs since its worker says so.
    running = reader.event("e0").waiting
    assert running is not None
    assert from_datetime(running.since) == from_datetime(LATER)
    assert (reader.event("ended").status, reader.event("ended").waiting) == ("pending", None)
    for event_id, tenant_id in (("none", None), ("foreign", "7")):
        with pytest.raises(UnknownEvent):
            reader.event(event_id, tenant_id)
