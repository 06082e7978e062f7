"""Finds an order in a vendor's list by our reference: what tells, after a lost answer, whether it was placed."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, TypeVar
from uuid import UUID

from schemas.errors import Retryable, Unknown

_CLOCKS_APART: Final = timedelta(days=1)
"""An upstream's dates come without a zone or even without an hour, so a search starts this much earlier."""
MOST_LOOKED_AT: Final = 2_000
_AT_ONCE: Final = 8
_TRIES: Final = 5
_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 5.0

Read = TypeVar("Read")


def not_before(event_id: str) -> datetime | None:
    """Since when an event's order can stand in an upstream's list; ``None`` where its id does not say (R9)."""
    try:
        milliseconds = UUID(event_id).int >> 80
        return datetime.fromtimestamp(milliseconds / 1000, UTC) - _CLOCKS_APART
    except (ValueError, OverflowError, OSError):
        return None


def read_date(value: object) -> datetime | None:
    """A vendor's date; without a zone it counts as UTC. ``None`` where it cannot be read."""
    try:
        date = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return date.replace(tzinfo=date.tzinfo or UTC)


async def patiently(read: Callable[[], Awaitable[Read]]) -> Read:
    """What ``read`` gives, asked again where a fault passes: one call in hundreds must not end a search.

    Raises ``Retryable`` where it goes on, or where the upstream asks for a longer wait than a search can make.
    """
    for attempt in range(1, _TRIES):
        try:
            return await read()
        except Retryable as error:
            wait_s = _PAUSE_S * 2**attempt if error.retry_after_s is None else error.retry_after_s
            if wait_s > _LONGEST_PAUSE_S:
                raise
            await asyncio.sleep(wait_s)
    return await read()


class TooManyOrders(Exception):
    """The list goes on beyond what may be looked at; ``looked_at`` orders of it were read."""

    def __init__(self, looked_at: int) -> None:
        super().__init__(looked_at)
        self.looked_at = looked_at


async def recent_orders(
    pages: AsyncIterator[list[dict[str, Any]]],
    since: datetime | None,
    read: Callable[[Mapping[str, Any]], Awaitable[Read | None]],
    date_name: str,
    most: int,
) -> AsyncGenerator[Read, None]:
    """What ``read`` gives of the orders of ``pages`` dated ``since``, without ``None``, several read side by side.

    An order whose date cannot be read is looked at. Raises ``TooManyOrders`` behind the page with the ``most``th.
    """
    looked_at = 0
    async for page in pages:
        recent = [each for each in page if since is None or (read_date(each.get(date_name)) or since) >= since]
        for start in range(0, len(recent), _AT_ONCE):
            reading = (patiently(partial(read, each)) for each in recent[start : start + _AT_ONCE])
            for order in await asyncio.gather(*reading):
                if order is not None:
                    yield order
        if looked_at and not recent:
            # Behind recent orders, older ones mean that the newest come first and that no recent one follows. No vendor
            # documents its list's order, so older ones at its beginning mean nothing.
            return
        looked_at += len(recent)
        if looked_at >= most:
            raise TooManyOrders(looked_at)


async def find_order(
    pages: AsyncIterator[list[dict[str, Any]]],
    reference: str,
    since: datetime | None,
    read: Callable[[Mapping[str, Any]], Awaitable[dict[str, Any] | None]],
    date_name: str,
) -> dict[str, Any] | None:
    """The first order that ``read`` finds to be the one, among those of ``pages`` dated ``since``.

    Raises ``Unknown`` where there are too many to look at.
    """
    try:
        async with aclosing(recent_orders(pages, since, read, date_name, MOST_LOOKED_AT)) as found:
            return await anext(found, None)
    except TooManyOrders as error:
        raise too_many(reference, error) from None


def too_many(reference: str, error: TooManyOrders) -> Unknown:
    """What a search ends in that could not look at all there is."""
    return Unknown(
        f"{reference} is not among the {error.looked_at} orders looked at in the upstream's list; look for it in "
        "the account there, and retry the event if it is missing",
        code="order_unknown",
    )
