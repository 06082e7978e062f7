"""A tenant's own names in the Printdeal API's words, and its statuses in ours."""

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from handlers.upstreams import mapping
from handlers.upstreams.mapping import full_reference

REFERENCE_LIMIT: Final = 35
"""Longest order reference the upstream takes, in characters."""
_HASH_LENGTH: Final = 12

ORDER_STATUSES: Final = {
    "in-progress": "received",
    "completed": "completed",
    "cancelled": "cancelled",
    "unknown": "unknown",
}
"""Statuses of an order at the upstream, and ours."""

LINE_STATUSES: Final = {
    "processing": "received",
    "in-progress": "received",
    "waiting-for-artwork": "waiting_for_artwork",
    "artwork-rejected": "waiting_for_artwork",
    "in-production": "in_production",
    "shipped": "shipped",
    "cancelled": "cancelled",
}
"""Statuses of an order's line at the upstream, and ours."""

_ADDRESS: Final = {
    "company": ("company", "companyName", "company_name"),
    "firstName": ("firstName", "first_name"),
    "lastName": ("lastName", "last_name"),
    "email": ("email",),
    "street": ("street",),
    "housenumber": ("housenumber", "house_number"),
    "housenumberAddition": ("housenumberAddition", "house_number_addition"),
    "zipcode": ("zipcode", "postcode", "zip"),
    "city": ("city",),
    "country": ("country",),
    "extraAddress": ("extraAddress", "extra_address"),
    "vatId": ("vatId", "vat_id"),
}


def order_reference(tenant_id: str, order_id: str) -> str:
    """The order's name at the upstream, ``REFERENCE_LIMIT`` characters at most: a longer one ends in its own hash."""
    reference = full_reference(tenant_id, order_id)
    if len(reference) <= REFERENCE_LIMIT:
        return reference
    digest = hashlib.sha256(reference.encode()).hexdigest()[:_HASH_LENGTH]
    return f"{reference[: REFERENCE_LIMIT - _HASH_LENGTH - 1]}-{digest}"


def upstream_address(address: Mapping[str, Any]) -> dict[str, Any]:
    """A tenant's address in the upstream's words; it wants countries in small letters."""
    fields = mapping.renamed(address, _ADDRESS)
    return {**fields, "country": str(fields["country"]).lower()} if "country" in fields else fields


def summary_of(order: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """An order of the upstream as results show it: ``status`` and each line's in our words, and where parcels are."""
    lines = [
        {
            "id": line.get("id"),
            "external_id": line.get("externalId"),
            "status": mapping.our_status(line.get("status"), LINE_STATUSES, config),
            "upstream_status": line.get("status"),
            "delivery_date": line.get("revisedDeliveryDate") or line.get("deliveryDate"),
            "tracking_urls": [
                each["trackAndTraceUrl"] for each in line.get("shipmentInfo") or () if each.get("trackAndTraceUrl")
            ],
        }
        for line in order.get("lines") or ()
    ]
    return {
        "status": mapping.our_status(order.get("status"), ORDER_STATUSES, config),
        "upstream_status": order.get("status"),
        "uuid": order.get("uuid"),
        "number": str(order.get("number")),
        "reference": order.get("reference"),
        "lines": lines,
    }
