"""Links a tenant's quotation to one of the upstream's, and orders it once it is accepted."""

from collections.abc import Mapping
from typing import Any, Final

from handlers.contract import Context
from handlers.dwd.client import PrintdealClient
from handlers.dwd.order import Placement, envelope
from handlers.results import Completed, Rejected
from handlers.upstreams.placement import order_id_of

_ACCEPTED: Final = frozenset({"accepted", "confirmed", "ordered"})


class QuotationWebhookHandler(Placement):
    """The upstream makes no quotations on request: a payload names one of its own by ``quote_id``, number or uuid.

    A quotation whose ``status`` is accepted, confirmed or ordered is ordered; any other is looked up and its price
    returned. ``files`` gives the artwork's address for line items of the quotation, by their id.
    """

    async def request_of(self, payload: Mapping[str, Any], context: Context) -> dict[str, Any] | Completed | Rejected:
        """See ``OrderPlacement``."""
        nested = payload.get("quotation")
        quotation = {**nested, **payload} if isinstance(nested, dict) else payload
        name = quotation.get("quote_id")
        if not isinstance(name, str | int) or not str(name).strip():
            return Completed({"status": "not_placed", "reason": "the quotation names no quote_id of the upstream"})
        quote = await PrintdealClient(context.config, context.http).quote(str(name))
        if quote is None:
            return Rejected(f"the upstream has no quotation {name}; check quote_id", code="no_such_quote")
        if quotation.get("status") not in _ACCEPTED:
            return Completed(_linked(quote))
        return _order(quotation, quote, context)


def _order(quotation: Mapping[str, Any], quote: Mapping[str, Any], context: Context) -> dict[str, Any]:
    files = quotation.get("files")
    addresses: Mapping[str, Any] = files if isinstance(files, dict) else {}
    lines = [
        {
            "quoteLineItemId": item["lineItemId"],
            "files": [{"url": str(addresses[item["lineItemId"]])}] if item["lineItemId"] in addresses else [],
        }
        for item in quote.get("quoteLineItems") or ()
    ]
    # A quotation and an order of the same number are two things.
    named = {**quotation, "order_id": f"Q{order_id_of(quotation)}"}
    return {"quoteId": quote["quoteId"], "orderLines": lines, **envelope(named, context.tenant_id, context.config)}


def _linked(quote: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "status": "linked",
        "quote_id": quote.get("quoteId"),
        "quote_number": quote.get("quoteNumber"),
        "price": quote.get("price"),
        "expires": quote.get("quoteExpiryDate"),
        "expired": quote.get("isExpired"),
        "lines": len(quote.get("quoteLineItems") or ()),
    }
