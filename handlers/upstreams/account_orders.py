"""What searches of one vendor's account have found out, shared by all who search it.

After an outage hundreds of orders are looked for at once, and a vendor's list does not show references: each order has
to be read. So one search goes on at a time, what it reads is remembered, and who waits takes the answer from it.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from datetime import datetime
from functools import partial
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from handlers.upstreams import search
from handlers.upstreams.search import TooManyOrders, read_date, recent_orders, too_many

_MOST_REMEMBERED: Final = 20_000
_MOST_ACCOUNTS: Final = 1_000


class Referenced(NamedTuple):
    """An order at a vendor: our reference in it, and the name by which the vendor knows it. Neither ever changes."""

    reference: str
    name: str


class Listing(NamedTuple):
    """How an account is looked through.

    ``pages`` begins its list anew. ``read`` reads a listed order, ``None`` where the vendor does not show it yet.
    ``id_name`` and ``date_name`` are the list's names for an order's id and date.
    """

    pages: Callable[[], AsyncIterator[list[dict[str, Any]]]]
    read: Callable[[Mapping[str, Any]], Awaitable[Referenced | None]]
    id_name: str
    date_name: str


class _Found(NamedTuple):
    name: str
    date: datetime | None
    listed_at: float
    """When the listing began that showed it, monotonic seconds."""


class _Listed(NamedTuple):
    """A listing that was read to its end: from when on (monotonic seconds), and of which orders."""

    began: float
    since: datetime | None


class AccountOrders:
    """The orders of one account, as far as they have been read."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._waiting: dict[object, datetime | None] = {}
        self._read: dict[str, Referenced] = {}
        self._found: dict[str, _Found] = {}
        self._whole: _Listed | None = None

    async def find(
        self, reference: str, since: datetime | None, listing: Listing, *, newest: bool = False
    ) -> str | None:
        """Name of an order with our reference among those dated ``since``; ``None`` where there is none now.

        With ``newest`` the first one that the list shows now, else any that was ever seen: enough to know that it was
        placed.
        Raises ``Unknown`` where there are too many to look at.
        """
        asked, waiter = time.monotonic(), object()
        self._waiting[waiter] = since
        try:
            async with self._turn:
                known = self._found.get(reference)
                if known is not None and _is_since(known.date, since) and (not newest or known.listed_at >= asked):
                    return known.name
                # What began before the question may have passed over an order that came meanwhile.
                if self._whole is not None and self._whole.began >= asked and _covers(self._whole.since, since):
                    return None
                return await self._search(reference, since, listing)
        finally:
            del self._waiting[waiter]

    async def _search(self, reference: str, since: datetime | None, listing: Listing) -> str | None:
        """Look through the list, for all who wait. Far back for their sake must not be too far for this one."""
        wanted = list(self._waiting.values())
        farthest = None if None in wanted else min(each for each in wanted if each is not None)
        for start in (farthest, since):
            try:
                return await self._look_through(reference, start, listing)
            except TooManyOrders as error:
                if start == since:
                    raise too_many(reference, error) from None
        return None

    async def _look_through(self, reference: str, since: datetime | None, listing: Listing) -> str | None:
        began, name = time.monotonic(), None
        read = partial(self._read_once, listing)
        async with aclosing(
            recent_orders(listing.pages(), since, read, listing.date_name, search.MOST_LOOKED_AT)
        ) as orders:
            async for order, date in orders:
                earlier = self._found.get(order.reference)
                if earlier is None or earlier.listed_at < began:
                    self._found[order.reference] = _Found(order.name, date, began)
                if name is None and order.reference == reference:
                    name = order.name
                if name is not None and len(self._waiting) == 1:
                    return name
        self._whole = _Listed(began, since)
        return name

    async def _read_once(
        self, listing: Listing, listed: Mapping[str, Any]
    ) -> tuple[Referenced, datetime | None] | None:
        number = str(listed[listing.id_name])
        order = self._read.get(number) or await listing.read(listed)
        if order is None:
            return None
        if len(self._read) >= _MOST_REMEMBERED:
            self._read.clear()
            self._found.clear()
        self._read[number] = order
        return order, read_date(listed.get(listing.date_name))


_accounts: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, AccountOrders]] = WeakKeyDictionary()


def orders_of_account(account: str) -> AccountOrders:
    """What is known of an account, in this process. ``account``: a text that no other account at any vendor has."""
    accounts = _accounts.setdefault(asyncio.get_running_loop(), {})
    if account not in accounts and len(accounts) >= _MOST_ACCOUNTS:
        accounts.clear()
    return accounts.setdefault(account, AccountOrders())


def _is_since(date: datetime | None, since: datetime | None) -> bool:
    return date is None or since is None or date >= since


def _covers(listed: datetime | None, since: datetime | None) -> bool:
    return listed is None or (since is not None and listed <= since)
