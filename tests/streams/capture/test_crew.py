"""Several relays of one outbox: each has its part, and the part of one that has gone is taken by the others."""

import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, select, text

from projections.migrate import upgrade
from streams.background import run_in_background
from streams.capture.crew import DatabaseCrew, NoTurns, shares_of
from streams.capture.feeds import OutboxFeed
from streams.capture.outbox import RELAYS, SLICES, append
from streams.capture.relay import Relay, RelayOptions
from streams.database import create_database_engine
from streams.settings import Settings
from tests.streams.capture.relay_support import change_row, published, running, waiting
from tests.support.waiting import eventually
from topics.catalogue import Catalogue, build_catalogue


@given(members=st.sets(st.integers(1, 99_999), min_size=1, max_size=20), shares=st.integers(1, SLICES))
def test_each_share_is_one_members_and_the_parts_are_alike(members: set[int], shares: int) -> None:
    parts = [shares_of(list(members), own, shares) for own in members]
    assert Counter(share for part in parts for share in part) == Counter(range(shares))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert shares_of(list(members), 0, shares) == frozenset()


@pytest.mark.parametrize("shares", range(1, SLICES + 1))
def test_each_slice_is_in_one_share(shares: int) -> None:
    feeds = [OutboxFeed(build_catalogue(), False, share, shares) for share in range(shares)]
    for parts in ([feed.lock_keys for feed in feeds], [feed.tenures for feed in feeds]):
        assert Counter(each for part in parts for each in part).total() == SLICES
        assert len({each for part in parts for each in part}) == SLICES
    assert len({feed.name for feed in feeds}) == shares


def test_where_nothing_is_known_nothing_changes(settings: Settings) -> None:
    away = create_database_engine("postgresql://nobody@127.0.0.1:1/none")
    turn = DatabaseCrew(away, 4).turn(0)
    assert (turn.may_take(), turn.must_leave()) == (False, False)
    assert (NoTurns().may_take(), NoTurns().must_leave()) == (True, False)
    away.dispose()


@pytest.fixture
def engine(postgres_database: str) -> Iterator[Engine]:
    engine = create_database_engine(postgres_database)
    upgrade(engine, ("projections", "outbox"))
    yield engine
    engine.dispose()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Engine]:
    """A tenant's own database."""
    engine = create_database_engine(f"sqlite:///{tmp_path}/shop.db")
    upgrade(engine, ("outbox",))
    yield engine
    engine.dispose()


@contextmanager
def following(crew: DatabaseCrew) -> Iterator[None]:
    """Be one of the crew for the length of the block."""
    stop = threading.Event()
    crashes: list[BaseException] = []
    thread = run_in_background(
        "crew", lambda: crew.follow(lambda: not stop.is_set()), lambda _name, error: crashes.append(error)
    )
    try:
        yield
    finally:
        stop.set()
        thread.join(60)
    assert not crashes


@pytest.mark.postgres
def test_relays_see_each_other_come_and_go(engine: Engine) -> None:
    first, second, other = DatabaseCrew(engine, 5), DatabaseCrew(engine, 5), DatabaseCrew(engine, 4)

    def parts() -> list[int]:
        return sorted(sum(crew.has(share) is True for share in range(5)) for crew in (first, second))

    with following(other), following(first):
        eventually(lambda: parts() == [0, 5], 60)
        with following(second):
            eventually(lambda: parts() == [2, 3], 60)
            assert all(first.has(share) is not second.has(share) for share in range(5))
            # Whoever splits otherwise is none of them.
            assert all(other.has(share) for share in range(4))
            end_sessions(engine)
            eventually(lambda: parts() == [2, 3], 60)
        eventually(lambda: parts() == [0, 5], 60)
        assert second.has(0) is None


def end_sessions(engine: Engine) -> None:
    """End every session that has an advisory lock here, as a restart of the server would."""
    with engine.begin() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
        )


@pytest.mark.postgres
@pytest.mark.embedded
def test_relays_share_an_outbox_and_each_key_keeps_its_order(
    embedded_settings: Settings, catalogue: Catalogue, engine: Engine, shop: Engine
) -> None:
    """One relay has all four shares, a second gets two of them, and all of them once the first has left.

    A tenant's database beside it is published all the time, by whoever has it.
    """
    settings = embedded_settings.model_copy(update={"relay_slices": 4, "relay_batch": 7})
    expected: dict[bytes, list[str]] = defaultdict(list)

    def relay() -> Relay:
        return Relay(settings, catalogue, [engine, shop], engine, RelayOptions(epoch="one"))

    def write() -> None:
        begin = sum(map(len, expected.values()))
        rows = [change_row(catalogue, str(number), begin + number) for number in range(40)]
        with engine.begin() as connection:
            append(connection, rows)
        sold = change_row(catalogue, "shop", begin)
        with shop.begin() as connection:
            append(connection, [sold])
        for row in (*rows, sold):
            expected[row.record_key].append(row.record_id)

    def holders() -> set[str]:
        with engine.connect() as connection:
            return set(connection.execute(select(RELAYS.c.holder).where(RELAYS.c.name != "schedule")).scalars())

    def kept(before: set[str]) -> int:
        write()
        return len(before & holders())

    write()
    with ExitStack() as first, ExitStack() as second:
        first.enter_context(running(relay()))
        eventually(lambda: len(holders()) == 4, 60)
        alone = holders()
        second.enter_context(running(relay()))
        eventually(lambda: kept(alone) == 2, 60)
        first.close()
        eventually(lambda: kept(alone) == 0, 60)
        eventually(lambda: waiting(engine) + waiting(shop) == 0, 60)
    found: dict[bytes, list[str]] = defaultdict(list)
    for key, headers, _ in published(embedded_settings, catalogue, catalogue.changes):
        found[key].append(headers["outbox_id"])
    assert found == expected
