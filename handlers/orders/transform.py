"""Second step of an order's pipeline: the order in the vendor's words."""

from collections.abc import Callable, Mapping
from typing import Any

from handlers.contract import Context, HttpClient, PluginManager
from handlers.orders.order import Hook, order_of, run_hook
from handlers.results import Completed, Rejected, Result
from schemas.errors import Permanent


class OrderTransformHandler:
    """Maps products and properties with the tenant's plugin manager.

    ``reference`` gives the order's name at the vendor from tenant id and order id. ``discounts`` is run where
    ``processing_options.apply_discounts`` is true.
    """

    calls_upstream = False

    def __init__(
        self,
        manager: Callable[[str, Mapping[str, Any], HttpClient], PluginManager],
        reference: Callable[[str, str], str],
        discounts: Hook | None = None,
    ) -> None:
        self._manager = manager
        self._reference = reference
        self._discounts = discounts

    async def handle_step(self, data: dict[str, Any], step: int, context: Context) -> Result:
        """``external_order``: ``ref``, ``items`` (``external_sku``, ``qty``, ``specifications``) and ``validation``."""
        order = order_of(data)
        manager = self._manager(context.tenant_id, context.config, context.http)
        hooks = await run_hook("apply_discounts", self._discounts, order, context)
        try:
            items = [
                {
                    "external_sku": manager.map_sku(str(item["sku"])),
                    "qty": int(item["quantity"]),
                    "specifications": manager.map_specifications(item),
                }
                for item in order["items"]
            ]
            reference = self._reference(context.tenant_id, str(order["order_id"]))
        except (KeyError, TypeError, ValueError) as error:
            reason = f"the order cannot be mapped ({error!r}); put OrderValidationHandler before this step"
            return Rejected(reason, code="invalid_order")
        except Permanent as error:
            return Rejected(str(error), code=error.code)
        external = {"ref": reference, "items": items, "validation": context.previous_step_result}
        return Completed({"external_order": external, "hooks_run": hooks})
