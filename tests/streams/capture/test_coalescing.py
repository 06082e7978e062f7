"""Of events alike the last is carried out, whatever comes when and whoever dies; the others say which one it was."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, create_engine, delete, select, update

from projections.migrate import upgrade
from projections.records import Fact, LogRecord, Scheduled
from projections.tables import METADATA, WEBHOOK_SCHEDULE
from projections.writer import write
from schemas.codec import decode_as
from schemas.events import Micros, TaskEvent, TaskReady, TaskScheduled, now_micros, to_datetime
from streams.agents.coalescing import KIND, MAX_WAIT
from streams.agents.waiting import waiting_task
from streams.capture.gates import FixedLimits
from streams.capture.publishing import Record
from streams.capture.schedule_feed import ScheduleFeed
from tests.streams.engine.workload import task_ready
from topics.catalogue import build_catalogue
from topics.gates import coalesce_gate

CATALOGUE = build_catalogue()
GATE = coalesce_gate("1", "orders", "1|Order|7")
TIER = CATALOGUE.topic("webhook-high")
SECOND = 1_000_000
HOUR = 3600 * SECOND


def wait(number: int, due_at: Micros, accepted_at: Micros, max_wait_s: float = 3600, gate: str = GATE) -> TaskScheduled:
    """The wait of the ``number``-th event of a burst."""
    task = task_ready(f"e{number}", accepted_at=accepted_at)
    task.options[MAX_WAIT] = f"{max_wait_s:g}"
    waits = waiting_task(task, KIND, "webhook-high", TIER, due_at, accepted_at)
    waits.gate = gate
    return waits


@dataclass
class House:
    """Projector and relay over one database; ``calls`` and ``ends`` are what the relay has published."""

    engine: Engine
    begin: Micros = field(default_factory=now_micros)
    offset: int = 0
    calls: list[str] = field(default_factory=list)
    ends: dict[str, str] = field(default_factory=dict)
    unread: list[TaskEvent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.feed = ScheduleFeed(CATALOGUE, FixedLimits())

    def project(self, fact: Fact) -> None:
        write(self.engine, [LogRecord("log", 0, self.offset, fact)], "epoch")
        self.offset += 1

    def come(self, number: int, waits: TaskScheduled) -> None:
        self.project(Scheduled(waits, b"key", number))

    def records(self, full: tuple[str, ...] = ()) -> list[Record]:
        with self.engine.connect() as connection:
            return [self.feed.record(row) for row in self.feed.read(connection, 10, full)]

    def look(self, published: int | None = None) -> list[Record]:
        """One look of the relay; killed before it could mark where only the first ``published`` got through."""
        records = self.records()
        got = records if published is None else records[:published]
        for record in got:
            self._note(record)
        if published is not None:
            self.feed = ScheduleFeed(CATALOGUE, FixedLimits())
            self.feed.begin()
            # A takeover finds in the tiers what was published (R7).
            got = [record for record in got if record.topic == TIER]
        with self.engine.begin() as connection:
            self.feed.mark(connection, [record.row for record in got])
        return records

    def catch_up(self) -> None:
        """Project the ends that were published."""
        while self.unread:
            self.project(self.unread.pop(0))

    def be_quiet(self) -> None:
        """Let the time of everything that waits come."""
        with self.engine.begin() as connection:
            past = to_datetime(self.begin - HOUR)
            connection.execute(update(WEBHOOK_SCHEDULE).values(due_at=past))

    def _note(self, record: Record) -> None:
        if record.topic == TIER:
            self.calls.append(decode_as(TaskReady, record.value).event_id)
        else:
            end = decode_as(TaskEvent, record.value)
            assert end.kind == "superseded"
            self.unread.append(end)
            self.ends.setdefault(end.event_id, orjson.loads(end.result or "")["superseded_by"])


@pytest.fixture
def house(empty: Engine) -> House:
    return fresh(empty)


def fresh(engine: Engine) -> House:
    with engine.begin() as connection:
        for table in METADATA.tables.values():
            connection.execute(delete(table))
    return House(engine)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("come"), st.booleans()),
        st.tuples(st.just("look"), st.one_of(st.none(), st.integers(0, 3))),
        st.tuples(st.sampled_from(("quiet", "catch_up")), st.none()),
    ),
    max_size=14,
)


@settings(max_examples=60)
@given(steps)
def test_the_last_one_goes_whoever_dies_and_nothing_older_goes_after_it(
    empty: Engine, happened: list[tuple[str, object]]
) -> None:
    house = fresh(empty)
    came = 0
    end: list[tuple[str, object]] = [("quiet", None), ("look", None), ("catch_up", None), ("look", None)]
    for what, how in [("come", True), *happened, *end]:
        if what == "come":
            due_at = house.begin - SECOND if how else house.begin + HOUR
            house.come(came, wait(came, due_at, house.begin - HOUR + came, 7200))
            came += 1
        elif what == "look":
            house.look(how)  # type: ignore[arg-type]
        elif what == "quiet":
            house.be_quiet()
        else:
            house.catch_up()

    numbers = [int(each[1:]) for each in house.calls]
    assert numbers[-1] == came - 1
    assert numbers == sorted(set(numbers))
    assert set(house.calls) | set(house.ends) == {f"e{each}" for each in range(came)}
    assert not set(house.calls) & set(house.ends)
    assert all(int(other[1:]) > int(each[1:]) for each, other in house.ends.items())


def test_nobody_goes_while_more_may_come_and_nobody_is_looked_at_until_then(house: House) -> None:
    house.come(0, wait(0, house.begin - 1, house.begin - HOUR, 7200))
    house.come(1, wait(1, house.begin + HOUR, house.begin, 7200))

    assert house.look() == []
    with house.engine.connect() as connection:
        due = connection.execute(select(WEBHOOK_SCHEDULE.c.due_at)).scalars().all()
    assert due == [to_datetime(house.begin + HOUR)] * 2


def test_the_first_one_waits_no_longer_than_it_may(house: House) -> None:
    house.come(0, wait(0, house.begin - HOUR, house.begin - 2 * HOUR, 7200))
    house.come(1, wait(1, house.begin + HOUR, house.begin, 7200))

    assert [record.row for record in house.look()] == ["e1|1|0|1|1", "e0|1|0|1|1"]
    assert (house.calls, house.ends) == (["e1"], {"e0": "e1"})


def test_each_key_has_a_last_one_of_its_own(house: House) -> None:
    for number in range(4):
        gate = coalesce_gate("1", "orders", f"1|Order|{number % 2}")
        house.come(number, wait(number, house.begin - 1, house.begin - HOUR, gate=gate))

    house.look()
    assert (sorted(house.calls), house.ends) == (["e2", "e3"], {"e0": "e2", "e1": "e3"})


def test_one_that_is_cancelled_takes_nobody_with_it(house: House) -> None:
    house.come(0, wait(0, house.begin - 1, house.begin - HOUR))
    last = wait(1, house.begin - 1, house.begin - HOUR)
    house.come(1, last)
    house.come(1, replace(last, version=2, kind="cancelled", reason="cancelled by ada"))

    kinds = [decode_as(TaskEvent, each.value).kind for each in house.records() if each.topic == CATALOGUE.events]
    assert kinds == ["cancelled"]
    assert [each.row for each in house.records() if each.topic == TIER] == ["e0|1|0|1|1"]


def test_one_of_a_log_begun_anew_is_no_older_one(house: House) -> None:
    house.come(500, wait(0, house.begin - 1, house.begin - HOUR))
    house.look()
    house.come(0, wait(1, house.begin - 1, now_micros() + HOUR))

    house.look()
    assert house.calls == ["e0", "e1"]


def test_nothing_of_a_key_is_published_while_the_last_ones_topic_is_full(house: House) -> None:
    house.come(0, replace(wait(0, house.begin - 1, house.begin - HOUR), target_topic=CATALOGUE.topic("webhook-low")))
    house.come(1, wait(1, house.begin - 1, house.begin - HOUR))

    assert house.records(full=(TIER,)) == []
    assert len(house.records()) == 2


def test_the_index_of_the_gates_is_used(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/plan.db")
    upgrade(engine, ("projections",))
    with engine.connect() as connection:
        query = (
            "SELECT event_id FROM webhook_schedule WHERE substr(webhook_schedule.gate, 1, 9) = 'coalesce|'"
            " AND gate = 'coalesce|1|x' ORDER BY log_offset DESC LIMIT 1"
        )
        plan = str(connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}").all())
    engine.dispose()
    assert "ix_webhook_schedule_coalesce" in plan
