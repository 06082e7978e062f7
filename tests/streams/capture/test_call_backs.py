"""Who waits for a call-back goes once: called back, timed out, or cancelled, whatever comes when and whoever dies."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, create_engine, delete, select

from projections.migrate import upgrade
from projections.records import Fact, LogRecord, Scheduled
from projections.tables import METADATA, WEBHOOK_SCHEDULE
from projections.writer import write
from schemas.codec import decode_as
from schemas.events import Micros, TaskEvent, TaskReady, TaskScheduled, now_micros
from streams.agents.waiting import waiting_task
from streams.capture.gates import FixedLimits
from streams.capture.schedule_feed import ScheduleFeed
from streams.engine.decide import CALL_BACK
from tests.streams.engine.workload import task_ready
from topics.catalogue import build_catalogue
from topics.gates import call_back_gate

CATALOGUE = build_catalogue()
GATE = call_back_gate("1", "order-7")
HOUR = 3_600_000_000
STEPS = CATALOGUE.steps("webhook-high")


def wait(due_at: Micros, created_at: Micros, version: int = 1, kind: str = "wait") -> TaskScheduled:
    """A wait for the call-back."""
    task = task_ready("e1", attempt=2, gate=GATE, accepted_at=created_at - 5)
    waits = waiting_task(task, "wait", "webhook-high", STEPS, due_at, created_at)
    waits.gate = GATE
    return replace(waits, version=version, kind=kind)


def call(number: int, at: Micros) -> TaskEvent:
    """A call-back."""
    return TaskEvent(
        kind="called_back",
        event_id=f"call-{number}",
        run=1,
        step=0,
        attempt=1,
        dispatch_seq=1,
        tenant_id="1",
        accepted_at=at,
        recorded_at=at + 1,
        payload=f'{{"call":{number}}}',
        gate=GATE,
    )


@dataclass
class House:
    """Projector and relay over one database; ``log`` is what the relay has published of the wait."""

    engine: Engine
    begin: Micros = field(default_factory=now_micros)
    offset: int = 0
    calls: list[int] = field(default_factory=list)
    log: list[str | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.feed = ScheduleFeed(CATALOGUE, FixedLimits())

    def project(self, fact: Fact) -> None:
        write(self.engine, [LogRecord("log", 0, self.offset, fact)], "epoch")
        self.offset += 1

    def look(self, fate: str) -> None:
        """One look of the relay. ``fate``: marked, killed before it could mark, or killed before it could publish."""
        self.feed._gates_at = 0.0
        with self.engine.connect() as connection:
            records = [self.feed.record(row) for row in self.feed.read(connection, 10, set())]
        published = [] if fate == "unpublished" else records
        for record in published:
            if record.topic == STEPS:
                self.log.append(decode_as(TaskReady, record.value).options.get(CALL_BACK, "silence"))
            elif "cancelled" not in self.log:
                # The end of an event is harmless twice.
                self.log.append("cancelled")
        if fate != "marked":
            self.feed = ScheduleFeed(CATALOGUE, FixedLimits())
            self.feed.begin()
            # A takeover finds in the tiers what was published (R7).
            published = [record for record in published if record.topic == STEPS]
        with self.engine.begin() as connection:
            self.feed.mark(connection, [record.row for record in published])


steps = st.lists(
    st.one_of(
        st.tuples(st.just("call"), st.integers(0, 3)),
        st.tuples(st.just("look"), st.sampled_from(("marked", "killed", "unpublished"))),
        st.tuples(st.sampled_from(("wait", "cancelled", "run_now")), st.just(0)),
    ),
    max_size=12,
)


@settings(max_examples=60)
@given(steps, st.booleans())
def test_a_wait_has_one_end_and_the_first_call_back_known_by_then_decides_it(
    empty: Engine, happened: list[tuple[str, object]], is_due: bool
) -> None:
    """R11: the relay alone decides, and what it has published holds."""
    with empty.begin() as connection:
        for table in METADATA.tables.values():
            connection.execute(delete(table))
    house = House(empty)
    due_at = house.begin - 1 if is_due else house.begin + HOUR
    told: set[str] = set()
    expected: str | None = None
    early = happened[:1] == [("call", 0)]
    for what, value in [*happened[:early], ("wait", 0), *happened[early:], ("look", "marked")]:
        if what == "call":
            assert isinstance(value, int)
            house.calls.append(value)
            house.project(call(value, house.begin + value))
        elif what == "look":
            if expected is None and value != "unpublished":
                expected = _due(house, told, is_due)
            house.look(str(value))
        elif what == "wait":
            told.add(what)
            house.project(Scheduled(wait(due_at, house.begin), b"e1"))
        elif not house.log and "wait" in told and told <= {"wait"}:
            # The first command holds.
            told.add(what)
            house.project(Scheduled(wait(house.begin - 1, house.begin, 2, what), b"e1"))
    assert house.log == ([] if expected is None else [expected])


def _due(house: House, told: set[str], is_due: bool) -> str | None:
    """What a look must publish, by what has been projected."""
    if "wait" not in told:
        return None
    if "cancelled" in told:
        return "cancelled"
    if house.calls:
        return f'{{"call":{min(house.calls)}}}'
    return "silence" if is_due or "run_now" in told else None


def test_what_has_ended_is_noted_as_such_where_the_database_was_away_the_first_time(tmp_path: Path) -> None:
    """R11: the relay asks again to note it, and must not say then that its task has gone."""
    engine = create_engine(f"sqlite:///{tmp_path}/webhook.db")
    upgrade(engine, ("projections",))
    house = House(engine)
    house.project(Scheduled(wait(house.begin + HOUR, house.begin), b"key"))
    house.project(Scheduled(wait(house.begin - 1, house.begin, 2, "cancelled"), b"key"))
    with engine.connect() as connection:
        rows = house.feed.read(connection, 10, set())
        ids = [house.feed.record(row).row for row in rows]
        house.feed.mark(connection, ids)
        connection.rollback()
    with engine.begin() as connection:
        house.feed.mark(connection, ids)
        found = connection.execute(select(WEBHOOK_SCHEDULE.c.dispatched_at, WEBHOOK_SCHEDULE.c.closed_at)).one()
    engine.dispose()
    assert (found.dispatched_at is None, found.closed_at is None) == (True, False)
