"""Many orders in one webhook: each is placed once, and each that cannot be is reported."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

import orjson

from handlers.contract import Context
from handlers.orders.order import PlacesOrders, order_of
from handlers.results import Completed, NotFound, Reconciled, Rejected, Result
from schemas.errors import Permanent, Retryable, Unknown
from schemas.limits import MAX_STEP_RESULT_BYTES

_AT_ONCE: Final = 8
_ROOM_BYTES: Final = MAX_STEP_RESULT_BYTES - 4096
_NAMES: Final = ("uuid", "order_number", "orderNumber", "number", "reference")


Known: TypeAlias = Callable[[Sequence[Mapping[str, Any]], Context], Awaitable[Mapping[str, Completed]]]
"""Which of these orders the vendor has already: their results by ``order_id``, found in one pass over its list."""


@dataclass(slots=True)
class _Progress:
    """What has become of the orders so far, by their place in the payload."""

    placed: dict[int, tuple[str, Any]] = field(default_factory=dict)
    failed: dict[int, dict[str, Any]] = field(default_factory=dict)
    open: list[Retryable | Unknown] = field(default_factory=list)
    halted: bool = False

    def enter(self, index: int, order: Mapping[str, Any], result: Result) -> None:
        """Keep the result of the order at ``index``."""
        order_id = str(order.get("order_id", ""))
        if isinstance(result, Completed):
            self.placed[index] = order_id, next((result.result[n] for n in _NAMES if result.result.get(n)), True)
        else:
            failure = {"index": index, "order_id": order_id, "reason": result.reason[:300], "code": result.code}
            self.failed[index] = failure


class OrderBulkHandler:
    """Places every order of ``orders``; without that list, every item of ``items`` as an order of its own.

    Each order has an idempotency key of its own, equal for every attempt, and a further attempt first asks the vendor
    what it has: what was placed before a crash is found and not placed again. An order that cannot be placed is
    reported and stops no other.
    """

    timeout_s = 600.0

    def __init__(self, place: PlacesOrders, known: Known, at_once: int = _AT_ONCE) -> None:
        """``at_once``: how many orders are under way at the vendor at a time."""
        self._place = place
        self._known = known
        self._at_once = at_once
        self.at_most_once: bool = getattr(place, "at_most_once", False)
        self.settle_s: float = getattr(place, "settle_s", 0.0)

    async def handle(self, payload: dict[str, Any], context: Context) -> Result:
        """``total``, ``done``, ``failed``, ``failures`` and ``placed``: the vendor's names by order id.

        Raises ``Retryable`` or ``Unknown`` where orders are left: an attempt after it goes on with these.
        """
        orders = orders_of(payload)
        if not orders:
            return Rejected("the payload has neither orders nor items to place", code="invalid_order")
        progress = _Progress()
        usable = _numbered(orders, progress)
        if context.attempt > 1 or context.run > 1:
            _require_answers(context)
            known = await self._known([order for _, order in usable], context)
            for index, order in usable:
                earlier = known.get(str(order["order_id"]))
                if earlier is not None:
                    progress.enter(index, order, earlier)
        waiting = iter([each for each in usable if each[0] not in progress.placed])

        async def work() -> None:
            for index, order in waiting:
                if progress.halted or len(progress.open) >= self._at_once:
                    return
                await self._one(index, order, context, progress)

        async with asyncio.TaskGroup() as group:
            for _ in range(self._at_once):
                group.create_task(work())
        return _result(len(orders), progress, self.settle_s)

    async def reconcile(self, payload: dict[str, Any], context: Context) -> Reconciled:
        """``NotFound``, so that a further attempt settles order by order what the vendor has and what it lacks.

        Raises ``Unknown`` where nobody can be asked for that.
        """
        _require_answers(context)
        return NotFound()

    async def _one(self, index: int, order: dict[str, Any], context: Context, progress: _Progress) -> None:
        try:
            result = await self._place.handle(order, _own(context, str(order["order_id"])))
        except (Retryable, Unknown) as error:
            progress.open.append(error)
            progress.halted = progress.halted or getattr(error, "retry_after_s", None) is not None
        except Permanent as error:
            progress.enter(index, order, Rejected(str(error), code=error.code))
        else:
            progress.enter(index, order, result)


def _require_answers(context: Context) -> None:
    """Raise ``Unknown`` where a sidecar places the orders."""
    if context.config.get("transport") == "sidecar":
        raise Unknown(
            "some of the orders may be placed and the sidecar cannot be asked for them; look at the vendor, "
            "then trigger those that are missing",
            code="order_unknown",
        )


def orders_of(payload: Mapping[str, Any]) -> list[Any]:
    """The payload's orders. Items of one order become orders of their own, named ``{order_id}-{number}``."""
    orders = payload.get("orders")
    if isinstance(orders, list):
        return orders
    whole = order_of(payload)
    items = whole.pop("items", None)
    if not isinstance(items, list):
        return []
    order_id = whole.get("order_id")
    whole.pop("id", None)
    return [
        {**whole, "order_id": None if order_id is None else f"{order_id}-{number}", "items": [item]}
        for number, item in enumerate(items, start=1)
    ]


def _numbered(orders: Sequence[object], progress: _Progress) -> list[tuple[int, dict[str, Any]]]:
    """Orders that can be tried; what is no order, or repeats one, is entered as failed."""
    usable: list[tuple[int, dict[str, Any]]] = []
    seen: set[str] = set()
    for index, each in enumerate(orders):
        order = order_of(each) if isinstance(each, Mapping) else {}
        order_id = str(order.get("order_id"))
        if order.get("order_id") in (None, ""):
            progress.enter(index, {}, Rejected("Order ID is required", code="invalid_order"))
        elif order_id in seen:
            progress.enter(index, order, Rejected(f"order {order_id} is in the list already", code="repeated"))
        else:
            seen.add(order_id)
            usable.append((index, order))
    return usable


def _own(context: Context, order_id: str) -> Context:
    """The context with a key of the order's own: the same for every attempt, whatever else is in the list."""
    key = hashlib.sha256(f"{context.idempotency_key}|{order_id}".encode()).hexdigest()[:32]
    return replace(context, idempotency_key=key)


def _result(total: int, progress: _Progress, settle_s: float) -> Result:
    left = total - len(progress.placed) - len(progress.failed)
    if left:
        reason = (
            f"{len(progress.placed)} of {total} orders are placed, {len(progress.failed)} cannot be, {left} wait: "
            f"{progress.open[0]}"
        )
        unknown = next((error for error in progress.open if isinstance(error, Unknown)), None)
        if unknown is not None:
            raise Unknown(reason, code=unknown.code)
        # What was placed just now shows at the vendor only after a while: looked up earlier, it would be placed again.
        waits = [settle_s, *(each.retry_after_s or 0.0 for each in progress.open if isinstance(each, Retryable))]
        raise Retryable(reason, code=progress.open[0].code, retry_after_s=max(waits) or None)
    summary = {"total": total, "done": len(progress.placed), "failed": len(progress.failed)}
    failures = [progress.failed[index] for index in sorted(progress.failed)]
    placed = [list(progress.placed[index]) for index in sorted(progress.placed)]
    room = _ROOM_BYTES
    kept_failures, room = _fitting(failures, room)
    kept_placed, room = _fitting(placed, room)
    left_out = len(failures) + len(placed) - len(kept_failures) - len(kept_placed)
    return Completed(
        {**summary, "failures": kept_failures, "placed": dict(kept_placed), "left_out_of_the_lists": left_out}
    )


def _fitting(entries: list[Any], room: int) -> tuple[list[Any], int]:
    """The first entries that fit into ``room`` bytes of JSON, and what is left of it (R3)."""
    for count, entry in enumerate(entries):
        room -= len(orjson.dumps(entry)) + 1
        if room < 0:
            return entries[:count], 0
    return entries, room
