"""What an order in a payload is: its attributes at the top level, or under ``order``."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol, TypeAlias

from handlers.contract import Context
from handlers.results import Result

_PIPELINE_KEYS: Final = ("previous_step_result", "pipeline_results", "current_step")

Hook: TypeAlias = Callable[[Mapping[str, Any], Context], Awaitable[None]]
"""Work that a payload's ``processing_options`` may ask for. Gets the order and the context."""


class PlacesOrders(Protocol):
    """A vendor's handler that places one order. It may carry ``at_most_once``, ``settle_s`` and ``reconcile``."""

    async def handle(self, payload: dict[str, Any], context: Context) -> Result:
        """Place the order of the payload."""


def order_of(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The order's attributes, ``order_id`` among them where it has an id; what a pipeline adds is left out."""
    nested = payload.get("order")
    order = {**nested, **payload} if isinstance(nested, dict) else dict(payload)
    for key in ("order", *_PIPELINE_KEYS):
        order.pop(key, None)
    if order.get("order_id") is None and order.get("id") is not None:
        order["order_id"] = order["id"]
    return order


async def run_hook(name: str, hook: Hook | None, order: Mapping[str, Any], context: Context) -> list[str]:
    """Run a hook if the order's ``processing_options`` ask for it; the names of the hooks that ran, for the result."""
    options = order.get("processing_options")
    if not isinstance(options, Mapping) or options.get(name) is not True:
        return []
    if hook is not None:
        await hook(order, context)
    return [name]
