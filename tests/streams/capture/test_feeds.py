"""What the outbox gives a relay next: whoever waits behind one tenant's many rows has a part of each batch (R15)."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import Engine, delete, update

from streams.capture.feeds import OutboxFeed
from streams.capture.outbox import METADATA, OUTBOX, OutboxRow, append
from streams.database import create_database_engine
from tests.streams.capture.relay_support import change_row
from topics.catalogue import Catalogue


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_database_engine(f"sqlite:///{tmp_path}/outbox.db")
    METADATA.create_all(engine)
    yield engine
    engine.dispose()


def fill(engine: Engine, catalogue: Catalogue, tenants: Sequence[str]) -> None:
    rows = [
        OutboxRow(catalogue.requests, f"{tenant}|x".encode(), b"", "WebhookRequested", None, tenant, f"{number}")
        for number, tenant in enumerate(tenants)
    ]
    with engine.begin() as connection:
        append(connection, rows)


def batch(engine: Engine, catalogue: Catalogue, limit: int) -> list[tuple[str, int]]:
    """The next rows as (tenant, number); they are published with that."""
    feed = OutboxFeed(catalogue, keep=False)
    with engine.begin() as connection:
        rows = feed.read(connection, limit, ())
        feed.mark(connection, [feed.row_id(row) for row in rows])
    return [(row["tenant_id"], int(row["record_id"])) for row in rows]


def test_half_of_a_batch_is_for_those_behind_a_tenant_that_would_fill_it(engine: Engine, catalogue: Catalogue) -> None:
    fill(engine, catalogue, [*["noisy"] * 100, *["quiet"] * 3, *["noisy"] * 10, *["other"] * 20])
    first = batch(engine, catalogue, 10)
    assert first == [("noisy", number) for number in range(5)] + [("quiet", 100), ("quiet", 101), ("quiet", 102)] + [
        ("other", 113),
        ("other", 114),
    ]


def test_what_others_do_not_need_is_the_crowding_tenants(engine: Engine, catalogue: Catalogue) -> None:
    fill(engine, catalogue, [*["noisy"] * 100, "quiet"])
    assert batch(engine, catalogue, 10) == [*(("noisy", number) for number in range(9)), ("quiet", 100)]
    assert batch(engine, catalogue, 10) == [("noisy", number) for number in range(9, 19)]


@hypothesis_settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(tenants=st.lists(st.sampled_from("aaaabc"), max_size=60), limit=st.integers(1, 9))
def test_each_tenants_rows_keep_their_order_and_none_is_left(
    tenants: list[str], limit: int, engine: Engine, catalogue: Catalogue
) -> None:
    with engine.begin() as connection:
        connection.execute(delete(OUTBOX))
    fill(engine, catalogue, tenants)
    found: dict[str, list[int]] = defaultdict(list)
    while rows := batch(engine, catalogue, limit):
        assert len(rows) <= limit
        for tenant, number in rows:
            found[tenant].append(number)
    assert {tenant: sorted(numbers) for tenant, numbers in found.items()} == found
    assert sorted(number for numbers in found.values() for number in numbers) == list(range(len(tenants)))


def test_who_got_an_id_long_ago_comes_first_when_it_commits_at_last(engine: Engine, catalogue: Catalogue) -> None:
    """The next row of its key waited for it to commit."""
    feed = OutboxFeed(catalogue, False)

    def look() -> list[int]:
        with engine.begin() as connection:
            rows = feed.read(connection, 10, ())
            feed.mark(connection, [feed.row_id(row) for row in rows])
        return [row["id"] for row in rows]

    def commit(*ids: int) -> None:
        with engine.begin() as connection:
            for each in ids:
                append(connection, [change_row(catalogue, str(each), each)])
                connection.execute(update(OUTBOX).where(OUTBOX.c.record_id == f"{each}-{each}").values(id=each))

    commit(1_000_000)
    assert look() == [1_000_000]
    commit(1, 1_000_001)
    assert look() == [1, 1_000_001]
