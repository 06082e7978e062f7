"""Orders that a vendor has already, found in one pass over its list."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final, Generic, Protocol, TypeVar

from handlers.contract import Context, HttpClient
from handlers.results import Completed
from handlers.upstreams.search import TooManyOrders, not_before, recent_orders
from schemas.errors import Unknown

MOST_LOOKED_AT: Final = 5_000
"""Orders of the list that are read at most."""


class ListsOrders(Protocol):
    """A vendor's client."""

    def pages(self) -> AsyncIterator[list[dict[str, Any]]]:
        """The account's orders, page by page."""


ClientT = TypeVar("ClientT", bound=ListsOrders)


@dataclass(frozen=True, slots=True)
class PastOrders(Generic[ClientT]):
    """How a vendor's orders are found by the tenant's own ids.

    ``reference`` gives our reference of an order from tenant id and order id; ``read`` gives a listed order whole, with
    our reference under ``reference_name``; ``date_name`` is where a listed order's date stands.
    """

    client: Callable[[Mapping[str, Any], HttpClient], ClientT]
    reference: Callable[[str, str], str]
    read: Callable[[ClientT, Mapping[str, Any]], Awaitable[dict[str, Any] | None]]
    reference_name: str
    date_name: str

    async def export(self, order_ids: Sequence[str], context: Context) -> AsyncIterator[tuple[str, Mapping[str, Any]]]:
        """The orders of these ids that are among the latest ``MOST_LOOKED_AT`` (an ``export.Source``)."""
        async for found in self._find(order_ids, context, None):
            yield found

    async def placed(self, orders: Sequence[Mapping[str, Any]], context: Context) -> dict[str, Completed]:
        """Results of the orders that this event has placed in an earlier attempt (a ``bulk.Known``).

        Raises ``Unknown`` where the list is too long to tell.
        """
        ids = [str(order["order_id"]) for order in orders]
        found = self._find(ids, context, not_before(context.event_id))
        names = ("uuid", "number", "orderNumber")
        return {
            order_id: Completed(
                {
                    "status": "placed",
                    "reference": order[self.reference_name],
                    **{name: order[name] for name in names if order.get(name)},
                }
            )
            async for order_id, order in found
        }

    async def _find(
        self, order_ids: Sequence[str], context: Context, since: datetime | None
    ) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        wanted = {self.reference(context.tenant_id, order_id): order_id for order_id in order_ids}
        if not wanted:
            return
        client = self.client(context.config, context.http)
        read = partial(self.read, client)
        try:
            async with aclosing(recent_orders(client.pages(), since, read, self.date_name, MOST_LOOKED_AT)) as orders:
                async for order in orders:
                    order_id = wanted.pop(str(order.get(self.reference_name)), None)
                    if order_id is not None:
                        yield order_id, order
                    if not wanted:
                        return
        except TooManyOrders as error:
            if since is None:
                return
            raise Unknown(
                f"{len(wanted)} orders, {next(iter(wanted))} among them, are not within the upstream's latest "
                f"{error.looked_at}; look for them in the account there, then trigger those that are missing",
                code="order_unknown",
            ) from None
