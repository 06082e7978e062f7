"""``webhook`` with a vendor that shows its orders at once, so that a test need not wait ten minutes for that."""

from handlers.dwd.order import Placement
from handlers.orders.bulk import OrderBulkHandler
from handlers.printcom.order import OrderWebhookHandler as PrintcomOrder

Placement.settle_s = 1.0
PrintcomOrder.settle_s = 1.0
OrderBulkHandler.timeout_s = 20.0

from streams.cli.main import main  # noqa: E402 (the manifest reads what is set above)

main()
