"""Which order at the upstream a payload is about."""

from collections.abc import Mapping
from typing import Any

from handlers.contract import Context
from handlers.dwd.client import PrintdealClient
from handlers.dwd.mapping import order_reference
from handlers.upstreams.placement import order_id_of, order_of


def uuid_of(payload: Mapping[str, Any], context: Context) -> str | None:
    """The order's uuid: from the pipeline's earlier steps, the latest first, else the payload's ``uuid``."""
    for result in (*reversed(context.results), order_of(payload)):
        uuid = result.get("uuid")
        if isinstance(uuid, str) and uuid:
            return uuid
    return None


async def order_at_upstream(
    payload: Mapping[str, Any], context: Context, client: PrintdealClient
) -> dict[str, Any] | None:
    """The order by its uuid, else by our reference of it. Raises ``ValueError`` where the payload has neither."""
    uuid = uuid_of(payload, context)
    if uuid is not None:
        return await client.order(uuid)
    return await client.find_order(order_reference(context.tenant_id, order_id_of(order_of(payload))))
