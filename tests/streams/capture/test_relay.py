import datetime
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import Engine, delete, insert, select, update

from projections.migrate import upgrade
from projections.tables import WEBHOOK_SCHEDULE
from schemas.codec import decode_as, encode
from schemas.events import ModelChanged, TaskReady, now_micros
from streams.broker.embedded import EmbeddedBroker
from streams.capture.budget import RECORD_OVERHEAD_BYTES, Budget
from streams.capture.outbox import OUTBOX, RELAYS, SLICES, append
from streams.capture.relay import Relay, RelayOptions
from streams.database import create_database_engine
from streams.settings import Settings
from tests.streams.capture.relay_support import change_row, published, running, waiting
from tests.support.waiting import eventually
from topics.catalogue import Catalogue

pytestmark = pytest.mark.embedded


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_database_engine(f"sqlite:///{tmp_path}/webhook.db")
    upgrade(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def relay(embedded_settings: Settings, catalogue: Catalogue, engine: Engine) -> Relay:
    return Relay(embedded_settings, catalogue, [engine], engine, RelayOptions(proof_timeout_s=0.1))


def test_rows_become_records_and_leave_the_outbox(
    relay: Relay, embedded_settings: Settings, catalogue: Catalogue, engine: Engine
) -> None:
    with running(relay):
        with engine.begin() as connection:
            append(connection, [change_row(catalogue, "7", 1)])
        relay.wake()
        eventually(lambda: waiting(engine) == 0)
    [(key, headers, value)] = published(embedded_settings, catalogue, catalogue.changes)
    assert key == b"1|Order|7"
    assert decode_as(ModelChanged, value).model_id == "7"
    assert headers["outbox_id"] == headers["ce_id"] == "7-1"
    assert headers["ce_tenantid"] == "1"
    with engine.connect() as connection:
        assert connection.execute(select(OUTBOX)).all() == []
        signed_off = connection.execute(select(RELAYS.c.signed_off_at)).scalars().all()
    assert len(signed_off) == SLICES + 1
    assert None not in signed_off


@hypothesis_settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(
    transactions=st.lists(
        st.tuples(st.lists(st.integers(0, 5), min_size=1, max_size=4), st.booleans()), min_size=1, max_size=30
    )
)
def test_the_order_of_each_key_is_that_of_its_commits(
    transactions: list[tuple[list[int], bool]],
    embedded_settings: Settings,
    catalogue: Catalogue,
    engine: Engine,
) -> None:
    before = len(published(embedded_settings, catalogue, catalogue.changes))
    expected: dict[bytes, list[str]] = defaultdict(list)
    small = embedded_settings.model_copy(update={"relay_batch": 3})
    mark = now_micros()
    with running(Relay(small, catalogue, [engine], engine)):
        for number, (keys, commits) in enumerate(transactions):
            rows = [change_row(catalogue, f"{mark}-{key}", number * 10 + at) for at, key in enumerate(keys)]
            with engine.connect() as connection:
                append(connection, rows)
                if commits:
                    connection.commit()
                    for row in rows:
                        expected[row.record_key].append(row.record_id)
        eventually(lambda: waiting(engine) == 0)
    records = published(embedded_settings, catalogue, catalogue.changes)
    found: dict[bytes, list[str]] = defaultdict(list)
    for key, headers, _ in records:
        if key.startswith(f"1|Order|{mark}-".encode()):
            found[key].append(headers["outbox_id"])
    assert found == expected
    assert len(records) - before == sum(len(each) for each in expected.values())


def test_a_row_that_cannot_be_published_is_set_aside_and_the_others_go_on(
    relay: Relay, embedded_settings: Settings, catalogue: Catalogue, engine: Engine
) -> None:
    huge = change_row(catalogue, "1", 1)
    rows = [
        change_row(catalogue, "1", 0),
        type(huge)(huge.topic, huge.record_key, b"\x00garbage", huge.record_type, None, "1", "garbage"),
        type(huge)("elsewhere", huge.record_key, huge.payload, huge.record_type, None, "1", "elsewhere"),
        change_row(catalogue, "1", 2, payload='"' + "x" * 2_000_000 + '"'),
        change_row(catalogue, "1", 3),
    ]
    with engine.begin() as connection:
        append(connection, rows)
    with running(relay):
        eventually(lambda: waiting(engine) == 0)
    sent = [headers["outbox_id"] for _, headers, _ in published(embedded_settings, catalogue, catalogue.changes)]
    assert sent == ["1-0", "1-3"]
    with engine.connect() as connection:
        rows_left = connection.execute(select(OUTBOX.c.record_id, OUTBOX.c.parked_reason).order_by(OUTBOX.c.id))
        parked = {row.record_id: row.parked_reason for row in rows_left}
    assert list(parked) == ["garbage", "elsewhere", "1-2"]
    assert "cannot be read" in parked["garbage"]
    assert "'elsewhere' is none of" in parked["elsewhere"]
    assert "2000045 bytes" in parked["1-2"]


def test_a_broker_that_is_away_is_waited_for(
    relay: Relay,
    embedded_settings: Settings,
    embedded_broker: EmbeddedBroker,
    catalogue: Catalogue,
    engine: Engine,
) -> None:
    with running(relay):
        with engine.begin() as connection:
            append(connection, [change_row(catalogue, "7", 1)])
        eventually(lambda: waiting(engine) == 0)
        embedded_broker.set_down()
        with engine.begin() as connection:
            append(connection, [change_row(catalogue, "7", number) for number in range(2, 6)])
        relay.wake()
        assert waiting(engine) == 4
        embedded_broker.set_up()
        eventually(lambda: waiting(engine) == 0)
    sent = [headers["outbox_id"] for _, headers, _ in published(embedded_settings, catalogue, catalogue.changes)]
    assert sent == [f"7-{number}" for number in range(1, 6)]


def test_after_an_unclean_end_what_is_in_the_log_is_not_published_again(
    embedded_settings: Settings, catalogue: Catalogue, engine: Engine
) -> None:
    rows = [change_row(catalogue, str(number % 3), number) for number in range(20)]
    with engine.begin() as connection:
        append(connection, rows)
    with running(Relay(embedded_settings, catalogue, [engine], engine)):
        eventually(lambda: waiting(engine) == 0)
    with engine.begin() as connection:
        # As a relay leaves it that was killed between the acknowledgements and its note of them.
        connection.execute(update(RELAYS).values(signed_off_at=None))
        append(connection, rows)
        append(connection, [change_row(catalogue, "0", 99)])
    with running(Relay(embedded_settings, catalogue, [engine], engine, RelayOptions(proof_timeout_s=0.1))):
        eventually(lambda: waiting(engine) == 0)
    sent = [headers["outbox_id"] for _, headers, _ in published(embedded_settings, catalogue, catalogue.changes)]
    assert len(sent) == 21
    assert sorted(sent) == sorted([row.record_id for row in rows] + ["0-99"])


def test_another_log_is_not_searched(embedded_settings: Settings, catalogue: Catalogue, engine: Engine) -> None:
    rows = [change_row(catalogue, "1", number) for number in range(3)]
    with engine.begin() as connection:
        append(connection, rows)
    with running(Relay(embedded_settings, catalogue, [engine], engine, RelayOptions(epoch="first"))):
        eventually(lambda: waiting(engine) == 0)
    with engine.begin() as connection:
        connection.execute(update(RELAYS).values(signed_off_at=None))
        append(connection, rows)
    # With a wait of 200 s the test would run into its own time limit.
    options = RelayOptions(epoch="second", proof_timeout_s=100)
    with running(Relay(embedded_settings, catalogue, [engine], engine, options)):
        eventually(lambda: waiting(engine) == 0)
    assert len(published(embedded_settings, catalogue, catalogue.changes)) == 6


def test_a_source_that_is_away_does_not_hold_up_another(
    embedded_settings: Settings, catalogue: Catalogue, engine: Engine, tmp_path: Path
) -> None:
    other = create_database_engine(f"sqlite:///{tmp_path}/shop.db")
    upgrade(other, ["outbox"])
    away = create_database_engine("postgresql://nobody@127.0.0.1:1/none")
    with engine.begin() as connection:
        append(connection, [change_row(catalogue, "1", 1)])
    with other.begin() as connection:
        append(connection, [change_row(catalogue, "2", 1)])
    with running(Relay(embedded_settings, catalogue, [away, engine, other], engine)):
        eventually(lambda: waiting(engine) + waiting(other) == 0)
    sent = {headers["outbox_id"] for _, headers, _ in published(embedded_settings, catalogue, catalogue.changes)}
    assert sent == {"1-1", "2-1"}
    other.dispose()
    away.dispose()


def test_two_relays_take_turns(embedded_settings: Settings, catalogue: Catalogue, engine: Engine) -> None:
    with engine.begin() as connection:
        append(connection, [change_row(catalogue, str(number), number) for number in range(200)])
    first, second = (Relay(embedded_settings, catalogue, [engine], engine) for _ in range(2))
    with running(first), running(second):
        eventually(lambda: waiting(engine) == 0)
    assert len(published(embedded_settings, catalogue, catalogue.changes)) == 200


def test_what_is_due_is_published_to_its_tier_and_marked(
    relay: Relay, embedded_settings: Settings, catalogue: Catalogue, engine: Engine
) -> None:
    now = datetime.datetime.now(datetime.UTC)
    topic = catalogue.topic("webhook-high")
    due = {"second": -1, "first": -2, "future": 3600, "closed": -5}
    with engine.begin() as connection:
        for name, seconds in due.items():
            connection.execute(
                insert(WEBHOOK_SCHEDULE).values(
                    schedule_id=name,
                    target_topic=topic,
                    due_at=now + datetime.timedelta(seconds=seconds),
                    record_key=b"1|Order|7",
                    task=encode(task(name, {"traceparent": "00-abc-def-01"})),
                    closed_at=now if name == "closed" else None,
                )
            )
    dispatched = select(WEBHOOK_SCHEDULE.c.schedule_id).where(WEBHOOK_SCHEDULE.c.dispatched_at.is_not(None))

    def count() -> int:
        with engine.connect() as connection:
            return len(connection.execute(dispatched).all())

    with running(relay):
        eventually(lambda: count() == 2)
    records = published(embedded_settings, catalogue, topic)
    assert [headers["schedule_id"] for _, headers, _ in records] == ["first", "second"]
    assert [headers["traceparent"] for _, headers, _ in records] == ["00-abc-def-01"] * 2
    assert [decode_as(TaskReady, value).event_id for _, _, value in records] == ["first", "second"]


def task(event_id: str, options: dict[str, str]) -> TaskReady:
    return TaskReady(
        event_id=event_id,
        run=1,
        step=0,
        attempt=1,
        dispatch_seq=1,
        tenant_id="1",
        endpoint="webhook/order",
        event_type="order_created",
        trigger="model",
        priority=5,
        accepted_at=now_micros(),
        payload="{}",
        options=options,
        model="Order",
        model_id="7",
    )


def test_the_budget_holds_the_embedded_relay_back_and_rows_stay(
    embedded_settings: Settings, catalogue: Catalogue, engine: Engine
) -> None:
    committed: dict[int, int] = {}
    rows = [change_row(catalogue, "7", number) for number in range(6)]
    size = len(rows[0].payload) + len(rows[0].record_key) + RECORD_OVERHEAD_BYTES
    budget = Budget(catalogue, lambda _topic: committed, unread_bytes=4 * size)
    with engine.begin() as connection:
        append(connection, rows)
    with running(Relay(embedded_settings, catalogue, [engine], engine, RelayOptions(budget=budget))):
        eventually(lambda: waiting(engine) == 2)
        committed.update(dict.fromkeys(range(4), 3))
        eventually(lambda: waiting(engine) == 0)
    sent = [headers["outbox_id"] for _, headers, _ in published(embedded_settings, catalogue, catalogue.changes)]
    assert sent == [row.record_id for row in rows]
    with engine.begin() as connection:
        assert connection.execute(delete(OUTBOX).where(OUTBOX.c.published_at.is_not(None))).rowcount == 6
