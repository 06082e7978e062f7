"""Waits until the upstream has taken in an order."""

from typing import Any, Final

from handlers.contract import Context
from handlers.dwd.client import PrintdealClient
from handlers.dwd.lookup import uuid_of
from handlers.dwd.mapping import summary_of
from handlers.results import Completed, Rejected, Result
from schemas.errors import Retryable

_WAIT_S: Final = 60.0
_TRIES: Final = 5
"""60 + 120 + 180 + 240 s: after ten minutes the upstream calls an order failed that it does not show."""


class OrderConfirmWebhookHandler:
    """Asks for the order by its ``uuid`` until it shows; as a step, after the one that placed it.

    Give its step five ``retry_attempts``: with fewer, the tries of ``webhook-failed`` go on from there.
    """

    async def handle(self, payload: dict[str, Any], context: Context) -> Result:
        """As ``handle_step``."""
        return await self.handle_step(payload, 0, context)

    async def handle_step(self, data: dict[str, Any], step: int, context: Context) -> Result:
        """The order as the upstream shows it. Raises ``Retryable`` while it does not."""
        uuid = uuid_of(data, context)
        if uuid is None:
            return Rejected(
                "there is no uuid of an order: put this step behind the one that places it, or give `uuid`",
                code="invalid_order",
            )
        order = await PrintdealClient(context.config, context.http).order(uuid)
        if order is not None:
            return Completed(summary_of(order, context.config))
        if context.attempt >= _TRIES:
            return Rejected(
                f"the upstream took order {uuid} and still does not show it after ten minutes, which means that it "
                "failed there; ask its support what was wrong, mend that, then place the order anew",
                code="order_failed",
            )
        raise Retryable(
            f"the upstream is still at work on order {uuid}; it is asked again",
            code="still_processing",
            retry_after_s=_WAIT_S * context.attempt,
        )
