from typing import Any

import pytest

from handlers.contract import Context, PluginManifest
from handlers.resolution import Resolution, conventional_name, endpoint_name, resolve
from handlers.results import Completed
from handlers.tenants.configuration import parse_configuration, read_configuration
from schemas.errors import Permanent
from tests.handlers.examples import SEED_TEXT, small


class Whole:
    async def handle(self, payload: dict[str, Any], context: Context) -> Completed:
        return Completed({})


class Step:
    async def handle_step(self, data: dict[str, Any], step: int, context: Context) -> Completed:
        return Completed({})


class Both(Whole, Step):
    pass


MANIFEST = PluginManifest(
    id="dwd",
    version="2.0.0",
    handlers={
        "OrderValidationHandler": Both,
        "OrderTransformHandler": Step,
        "OrderSubmitHandler": Step,
        "OrderExportHandler": Whole,
        "OrderBulkHandler": Whole,
        "SpecialOrderWebhookHandler": Whole,
        "CustomOrderHandler": Whole,
        "OrderWebhookHandler": Whole,
        "OrdersBulkWebhookHandler": Whole,
        "QuotationWebhookHandler": Whole,
    },
)
SEED = read_configuration(SEED_TEXT)


def names(resolution: Resolution) -> list[str]:
    return [step.handler_name for step in resolution.steps]


@pytest.mark.parametrize(
    ("endpoint", "source", "handlers"),
    [
        (
            "webhook/order/process",
            "pipeline",
            ["OrderValidationHandler", "OrderTransformHandler", "OrderSubmitHandler"],
        ),
        ("webhook/order/export", "route_handlers", ["OrderExportHandler"]),
        ("webhook/order/bulk", "route_handlers", ["OrderBulkHandler"]),
        ("webhook/custom/special", "route_handlers", ["SpecialOrderWebhookHandler"]),
        ("webhook/order", "target_class", ["OrderWebhookHandler"]),
        ("webhook/quotation", "convention", ["QuotationWebhookHandler"]),
        ("webhook/orders/bulk", "convention", ["OrdersBulkWebhookHandler"]),
    ],
)
def test_the_four_ways_of_the_seeds_document(endpoint: str, source: str, handlers: list[str]) -> None:
    resolution = resolve(endpoint, SEED, MANIFEST)

    assert (resolution.source, names(resolution)) == (source, handlers)
    assert resolution.is_pipeline is (source == "pipeline")


SETTINGS: list[dict[str, Any]] = [
    {"webhook_endpoint": "webhook/order/process", "pipeline": [{"handler_class": "OrderSubmitHandler"}]},
    {
        "webhook_endpoint": "webhook/all",
        "pipeline": [{"handler_class": "OrderTransformHandler"}],
        "target_class": "CustomOrderHandler",
    },
    {"webhook_endpoint": "webhook/order", "target_class": "CustomOrderHandler"},
    {"webhook_endpoint": "webhook/quotation"},
    {"webhook_endpoint": "webhook/both", "target_class": "CustomOrderHandler"},
    {"webhook_endpoint": "webhook/gone", "target_class": "GoneHandler"},
    {
        "webhook_endpoint": "webhook/half",
        "pipeline": [{"handler_class": "OrderSubmitHandler"}, {"handler_class": "No"}],
    },
    {"webhook_endpoint": "webhook/lower", "target_class": "orderwebhookhandler"},
    {"webhook_endpoint": "webhook/module", "target_class": "os"},
    {"webhook_endpoint": "webhook/stepless", "pipeline": [{"handler_class": "OrderExportHandler"}]},
    {"webhook_endpoint": "webhook/step", "target_class": "OrderTransformHandler"},
    {"webhook_endpoint": "webhook/twice", "target_class": "OrderBulkHandler"},
    {"webhook_endpoint": "webhook/twice", "target_class": "OrderExportHandler"},
]
ROUTE_HANDLERS = {
    "webhook/all": "OrderExportHandler",
    "webhook/both": "OrderBulkHandler",
    "webhook/order/export": "OrderExportHandler",
    "webhook/custom/special": "SpecialOrderWebhookHandler",
    "webhook/missing": "MissingHandler",
    "webhook/builtin": "eval",
    "webhook/dunder": "__init__",
    "orders": "OrderBulkHandler",
    "webhook/orders/bulk": "OrderBulkHandler",
}


@pytest.mark.parametrize(
    ("endpoint", "source", "handler"),
    [
        # 1. a pipeline comes first, whatever else is named
        ("webhook/order/process", "pipeline", "OrderSubmitHandler"),
        ("webhook/all", "pipeline", "OrderTransformHandler"),
        # 2. then route_handlers
        ("webhook/both", "route_handlers", "OrderBulkHandler"),
        ("webhook/order/export", "route_handlers", "OrderExportHandler"),
        ("webhook/custom/special", "route_handlers", "SpecialOrderWebhookHandler"),
        ("webhook/orders/bulk", "route_handlers", "OrderBulkHandler"),
        ("orders", "route_handlers", "OrderBulkHandler"),
        # 3. then target_class, of the first entry of the endpoint
        ("webhook/order", "target_class", "CustomOrderHandler"),
        ("webhook/twice", "target_class", "OrderBulkHandler"),
        # 4. then the convention, with an entry and without one
        ("webhook/quotation", "convention", "QuotationWebhookHandler"),
        ("quotation", "convention", "QuotationWebhookHandler"),
        ("order", "convention", "OrderWebhookHandler"),
        ("webhook/Order", "convention", "OrderWebhookHandler"),
        ("orders/bulk", "convention", "OrdersBulkWebhookHandler"),
        ("webhook/orders-bulk", "convention", "OrdersBulkWebhookHandler"),
        ("webhook/orders_bulk", "convention", "OrdersBulkWebhookHandler"),
        ("webhook/orders.bulk", "convention", "OrdersBulkWebhookHandler"),
        # slashes around it and the plugin's own prefix are no part of an endpoint
        ("/webhook/order/", "target_class", "CustomOrderHandler"),
        ("dwd/webhook/order", "target_class", "CustomOrderHandler"),
        ("/dwd/webhook/order/export/", "route_handlers", "OrderExportHandler"),
        # a name that is configured and missing is an error; nothing else is tried in its place
        ("webhook/gone", None, "GoneHandler (target_class)"),
        ("webhook/missing", None, "MissingHandler (route_handlers)"),
        ("webhook/half", None, "No (pipeline step 1: unknown)"),
        ("webhook/stepless", None, "OrderExportHandler (pipeline step 0: has no `handle_step`)"),
        ("webhook/step", None, "OrderTransformHandler (target_class) only runs as a step"),
        # names are compared whole, and nothing is imported because a configuration names it
        ("webhook/lower", None, "orderwebhookhandler (target_class)"),
        ("webhook/module", None, "os (target_class)"),
        ("webhook/builtin", None, "eval (route_handlers)"),
        ("webhook/dunder", None, "__init__ (route_handlers)"),
        # the convention finds what the plugin has, and says what it looked for
        ("webhook/orders", None, "OrdersWebhookHandler (convention)"),
        ("webhook/order/bulk", None, "OrderBulkWebhookHandler (convention)"),
        ("webhook/webhook/order", None, "WebhookOrderWebhookHandler (convention)"),
        ("order/webhook", None, "OrderWebhookWebhookHandler (convention)"),
        ("webhook/ORDER", None, "ORDERWebhookHandler (convention)"),
        ("printcom/webhook/order", None, "PrintcomWebhookOrderWebhookHandler (convention)"),
        ("webhook/order/process/again", None, "OrderProcessAgainWebhookHandler (convention)"),
        ("webhook/-/", None, "convention"),
        ("webhook", None, "convention"),
        ("", None, "convention"),
        ("webhook/7", None, "7WebhookHandler (convention)"),
    ],
)
def test_forty_ways_to_name_a_handler(endpoint: str, source: str | None, handler: str) -> None:
    configuration = parse_configuration(small(webhook_settings=SETTINGS, route_handlers=ROUTE_HANDLERS))
    name = endpoint_name(endpoint, configuration)

    if source is not None:
        resolution = resolve(name, configuration, MANIFEST)
        assert (resolution.source, names(resolution)) == (source, [handler])
        return
    with pytest.raises(Permanent) as caught:
        resolve(name, configuration, MANIFEST)
    assert caught.value.code == "no_handler"
    assert handler in str(caught.value)


@pytest.mark.parametrize(
    ("pipeline", "route_handlers", "target_class", "source"),
    [
        (True, True, True, "pipeline"),
        (True, False, False, "pipeline"),
        (False, True, True, "route_handlers"),
        (False, True, False, "route_handlers"),
        (False, False, True, "target_class"),
        (False, False, False, "convention"),
    ],
)
def test_the_order_of_the_four_ways(pipeline: bool, route_handlers: bool, target_class: bool, source: str) -> None:
    entry: dict[str, Any] = {"webhook_endpoint": "webhook/order"}
    if pipeline:
        entry["pipeline"] = [{"handler_class": "OrderSubmitHandler"}]
    if target_class:
        entry["target_class"] = "CustomOrderHandler"
    handlers = {"webhook/order": "OrderBulkHandler"} if route_handlers else {}
    configuration = parse_configuration(small(webhook_settings=[entry], route_handlers=handlers))

    assert resolve("webhook/order", configuration, MANIFEST).source == source


def test_tries_and_timeouts_are_each_steps_own_and_absent_where_none_is_configured() -> None:
    steps = resolve("webhook/order/process", SEED, MANIFEST).steps

    assert [(step.timeout_s, step.retry_attempts) for step in steps] == [(30, 3), (60, 2), (120, 5)]
    assert [(step.timeout_s, step.retry_attempts) for step in resolve("webhook/order", SEED, MANIFEST).steps] == [
        (None, None)
    ]


def test_a_changes_own_entry_decides_and_a_manual_trigger_takes_the_first() -> None:
    entries = [
        {"webhook_endpoint": "webhook/order", "target_class": "CustomOrderHandler"},
        {"webhook_endpoint": "webhook/order", "target_class": "OrderBulkHandler"},
    ]
    configuration = parse_configuration(small(webhook_settings=entries))
    second = configuration.webhook_settings[1]

    assert names(resolve("webhook/order", configuration, MANIFEST, second)) == ["OrderBulkHandler"]
    assert names(resolve("webhook/order", configuration, MANIFEST)) == ["CustomOrderHandler"]


@pytest.mark.parametrize(
    ("endpoint", "changes", "tried"),
    [
        ("webhook/unheard/of", {}, ["UnheardOfWebhookHandler (convention)"]),
        ("webhook", {}, ["convention"]),
        ("webhook/x", {"route_handlers": {"webhook/x": "system"}}, ["system (route_handlers)"]),
        ("webhook/x", {"route_handlers": {"webhook/x": "OrderTransformHandler"}}, ["OrderTransformHandler", "step"]),
        (
            "webhook/order",
            {"webhook_settings": [{"webhook_endpoint": "webhook/order", "target_class": "Gone"}]},
            ["Gone (target_class)"],
        ),
        (
            "webhook/order",
            {
                "webhook_settings": [
                    {
                        "webhook_endpoint": "webhook/order",
                        "pipeline": [
                            {"handler_class": "Gone"},
                            {"handler_class": "OrderSubmitHandler"},
                            {"handler_class": "OrderExportHandler"},
                        ],
                    }
                ]
            },
            ["Gone (pipeline step 0: unknown)", "OrderExportHandler (pipeline step 2: has no `handle_step`)"],
        ),
    ],
)
def test_what_cannot_be_found_is_a_permanent_fault_naming_what_was_tried(
    endpoint: str, changes: dict[str, Any], tried: list[str]
) -> None:
    with pytest.raises(Permanent) as caught:
        resolve(endpoint, parse_configuration(small(**changes)), MANIFEST)

    assert caught.value.code == "no_handler"
    assert endpoint in str(caught.value)
    for each in tried:
        assert each in str(caught.value)


@pytest.mark.parametrize(
    ("endpoint", "name"),
    [
        ("webhook/order", "OrderWebhookHandler"),
        ("webhook/orders/bulk", "OrdersBulkWebhookHandler"),
        ("webhook/order-line/status_changed", "OrderLineStatusChangedWebhookHandler"),
        ("webhooks/order", "WebhooksOrderWebhookHandler"),
        ("orders", "OrdersWebhookHandler"),
        ("webhook", None),
        ("webhook/", None),
    ],
)
def test_the_convention(endpoint: str, name: str | None) -> None:
    assert conventional_name(endpoint) == name
