"""Many searches of one account at once read each of its orders once."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from handlers.upstreams import search
from handlers.upstreams.account_orders import AccountOrders, Listing, Referenced
from schemas.errors import Retryable, Unknown

EARLY, LATE = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC)


class Account:
    """A vendor's list, the newest first, in pages of ten; counts what is read of it."""

    def __init__(self, orders: int) -> None:
        self.orders = [{"id": number, "date": "2026-03-05"} for number in reversed(range(orders))]
        self.pages_read = 0
        self.orders_read: list[int] = []
        self.known = AccountOrders()

    async def pages(self) -> AsyncIterator[list[dict[str, Any]]]:
        for start in range(0, len(self.orders), 10):
            self.pages_read += 1
            await asyncio.sleep(0)
            yield self.orders[start : start + 10]

    async def read(self, listed: Mapping[str, Any]) -> Referenced | None:
        self.orders_read.append(listed["id"])
        await asyncio.sleep(0)
        return Referenced(listed.get("reference", f"R-{listed['id']}"), f"uuid-{listed['id']}")

    async def find(self, reference: str, since: datetime | None = EARLY, newest: bool = False) -> str | None:
        listing = Listing(self.pages, self.read, "id", "date")
        return await self.known.find(reference, since, listing, newest=newest)


async def test_many_at_once_read_each_order_once_and_the_list_twice_at_most() -> None:
    account = Account(100)
    wanted = [f"R-{number}" for number in range(150)]

    found = await asyncio.gather(*(account.find(each) for each in wanted))

    assert found == [f"uuid-{number}" if number < 100 else None for number in range(150)]
    assert sorted(account.orders_read) == list(range(100))
    assert account.pages_read <= 20


async def test_one_alone_reads_no_further_than_it_must() -> None:
    account = Account(100)

    assert await account.find("R-99") == "uuid-99"
    assert account.pages_read == 1


async def test_what_is_asked_later_is_not_answered_by_an_earlier_listing() -> None:
    account = Account(10)
    assert await account.find("R-10") is None
    account.orders.insert(0, {"id": 10, "date": "2026-03-05"})

    assert await account.find("R-10") == "uuid-10"
    assert account.orders_read.count(3) == 1


async def test_an_order_that_took_anothers_reference_is_the_newest() -> None:
    account = Account(10)
    assert await account.find("R-3") == "uuid-3"
    account.orders.insert(0, {"id": 10, "date": "2026-03-05", "reference": "R-3"})

    assert await account.find("R-3") == "uuid-3"
    assert await account.find("R-3", newest=True) == "uuid-10"


async def test_an_order_from_before_the_event_is_not_its_order() -> None:
    account = Account(10)
    account.orders[0]["date"] = "2026-03-01"
    assert await account.find("R-9", EARLY) == "uuid-9"

    assert await account.find("R-9", LATE) is None


async def test_one_listing_answers_who_looks_less_far_back_and_who_looks_farther() -> None:
    account = Account(30)

    found = await asyncio.gather(*(account.find(f"R-{40 + n}", since) for n, since in enumerate((LATE, LATE, EARLY))))

    assert list(found) == [None] * 3
    # The first had begun when the others came.
    assert account.pages_read == 2 * 3


async def test_who_has_to_look_far_back_makes_nobody_else_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "MOST_LOOKED_AT", 15)
    account = Account(30)
    for each in account.orders[10:]:
        each["date"] = "2026-03-01"

    first, late, early = await asyncio.gather(
        account.find("R-39", LATE), account.find("R-40", LATE), account.find("R-41", EARLY), return_exceptions=True
    )

    assert first is late is None
    assert isinstance(early, Unknown)


async def test_a_search_that_fails_leaves_what_it_has_read_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_PAUSE_S", 0)
    account = Account(20)
    pages = account.pages

    async def broken() -> AsyncIterator[list[dict[str, Any]]]:
        async for page in pages():
            yield page
            raise Retryable("the upstream is away", retry_after_s=60)

    monkeypatch.setattr(account, "pages", broken)
    with pytest.raises(Retryable):
        await account.find("R-1")
    monkeypatch.setattr(account, "pages", pages)

    assert await account.find("R-1") == "uuid-1"
    assert sorted(account.orders_read) == list(range(20))
