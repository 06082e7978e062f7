"""A tenant's own names in the Print.com API's words, and its statuses in ours."""

from collections.abc import Mapping
from typing import Any, Final

from handlers.upstreams import mapping

STATUSES: Final = {
    "ORDERRECEIVED": "received",
    "SENTTOSUPPLIER": "received",
    "ACCEPTEDBYSUPPLIER": "in_production",
    "REFUSEDBYSUPPLIER": "failed",
    "CREATED": "received",
    "PROCESSING": "in_production",
    "SHIPPED": "shipped",
    "CANCELLED": "cancelled",
}
"""Statuses of an order and of its items at the upstream, and ours. The upstream has no published list of them."""

_ADDRESS: Final = {
    "companyName": ("companyName", "company", "company_name"),
    "firstName": ("firstName", "first_name"),
    "lastName": ("lastName", "last_name"),
    "email": ("email",),
    "fullstreet": ("fullstreet", "full_street"),
    "postcode": ("postcode", "zipcode", "zip"),
    "city": ("city",),
    "country": ("country",),
    "telephone": ("telephone", "phone"),
}
_STREET: Final = (
    ("street",),
    ("housenumber", "house_number"),
    ("housenumberAddition", "house_number_addition"),
)


def upstream_options(item: Mapping[str, Any], quantity: int, config: Mapping[str, Any]) -> dict[str, Any]:
    """A product's options from an item's ``specs``, renamed by ``specification_map``, and the number of copies."""
    return {**mapping.map_specifications(item, config), "copies": quantity}


def upstream_address(address: Mapping[str, Any]) -> dict[str, Any]:
    """A tenant's address in the upstream's words; it wants the street in one piece and countries in capitals."""
    fields = mapping.renamed(address, _ADDRESS)
    if "fullstreet" not in fields:
        parts = (next((str(address[name]) for name in names if address.get(name)), "") for names in _STREET)
        fields["fullstreet"] = " ".join(part for part in parts if part)
    return {**fields, "country": str(fields["country"]).upper()} if "country" in fields else fields
