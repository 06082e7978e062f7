from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from handlers.upstreams import search
from handlers.upstreams.search import find_order, not_before, patiently, read_date
from schemas.errors import Retryable, Unknown
from schemas.identifiers import new_event_id

SINCE = datetime(2026, 3, 1, tzinfo=UTC)
OLD, RECENT = "2026-02-01 10:00:00", "2026-03-02"


class List:
    """A vendor's list: pages of dates, an order's number is its place. Counts what is read of it."""

    def __init__(self, *pages: list[Any]) -> None:
        self._pages = pages
        self.pages_read = 0
        self.orders_read: list[int] = []

    async def pages(self) -> AsyncIterator[list[dict[str, Any]]]:
        number = 0
        for page in self._pages:
            self.pages_read += 1
            yield [{"n": number + index, "date": date} for index, date in enumerate(page)]
            number += len(page)

    async def find(self, number: int) -> dict[str, Any] | None:
        async def read(listed: Mapping[str, Any]) -> dict[str, Any] | None:
            self.orders_read.append(listed["n"])
            return {"found": number} if listed["n"] == number else None

        return await find_order(self.pages(), "TENANT-1-7", SINCE, read, "date")


@pytest.mark.parametrize(
    ("pages", "number"),
    [
        (([RECENT, OLD], [OLD]), 0),  # the newest first
        (([OLD, OLD], [OLD, RECENT], [RECENT]), 4),  # the oldest first
        (([None, "soon"],), 1),  # dates that cannot be read
    ],
)
async def test_an_order_is_found_in_whatever_order_the_list_comes(pages: tuple[list[Any], ...], number: int) -> None:
    assert await List(*pages).find(number) == {"found": number}


async def test_what_is_too_old_is_not_read_and_ends_a_list_that_comes_newest_first() -> None:
    listed = List([RECENT, OLD], [OLD, OLD], [OLD], [OLD])
    assert await listed.find(99) is None
    assert listed.orders_read == [0]
    assert listed.pages_read == 2


async def test_a_list_too_long_to_tell_is_unknown_and_says_where_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "MOST_LOOKED_AT", 3)
    with pytest.raises(Unknown, match="TENANT-1-7") as caught:
        await List([RECENT] * 2, [RECENT] * 2, [RECENT]).find(99)
    assert "look for it in the account there" in str(caught.value)


async def test_a_fault_in_between_does_not_end_a_search_and_a_lasting_one_does() -> None:
    faults = [Retryable("once"), Retryable("twice", retry_after_s=0)]

    async def read() -> int:
        if faults:
            raise faults.pop()
        return 7

    assert await patiently(read) == 7

    calls = []

    async def fail() -> int:
        calls.append(1)
        raise Retryable("for ever", retry_after_s=0)

    with pytest.raises(Retryable):
        await patiently(fail)
    assert len(calls) == 5

    async def wait_long() -> int:
        calls.append(1)
        raise Retryable("later", retry_after_s=60)

    with pytest.raises(Retryable) as caught:
        await patiently(wait_long)
    assert caught.value.retry_after_s == 60
    assert len(calls) == 6


def test_dates_and_the_events_own_time() -> None:
    assert read_date("2026-03-01T00:00:00Z") == SINCE
    assert read_date("2026-03-01 00:00:00") == SINCE
    assert read_date(None) is read_date("soon") is None
    since = not_before(new_event_id())
    assert since is not None
    assert 23 * 3600 < (datetime.now(UTC) - since).total_seconds() < 25 * 3600
    assert not_before("event-1") is None
    assert not_before("ffffffff-ffff-7fff-8fff-ffffffffffff") is None
