from typing import Any

import pytest

from handlers.tenants.configuration import ConfigurationError, parse_configuration, read_configuration
from tests.handlers.examples import SEED_TEXT, small


def problems(document: object) -> dict[str, str]:
    with pytest.raises(ConfigurationError) as caught:
        parse_configuration(document)
    return {problem.path: problem.reason for problem in caught.value.problems}


def entry(**changes: Any) -> dict[str, Any]:
    return {"webhook_endpoint": "webhook/order"} | changes


def test_the_seeds_document_is_accepted_as_written() -> None:
    configuration = read_configuration(SEED_TEXT)

    assert configuration.plugin_version == "2.0.0"
    assert configuration.plugin_port == 5000
    assert configuration.notes() == []
    assert configuration.route_handlers["webhook/order/export"] == "OrderExportHandler"
    orders, quotations, pipeline = configuration.webhook_settings
    assert (orders.target_class, orders.priority, orders.delay) == ("OrderWebhookHandler", 7, 0)
    assert (quotations.target_class, quotations.delay) == (None, 60)
    assert pipeline.pipeline is not None
    assert [(step.handler_class, step.retry_attempts, step.timeout) for step in pipeline.pipeline] == [
        ("OrderValidationHandler", 3, 30),
        ("OrderTransformHandler", 2, 60),
        ("OrderSubmitHandler", 5, 120),
    ]


@pytest.mark.parametrize("model", ["Order", "shop.models.Order", "App\\Models\\Tenants\\Order"])
def test_a_model_matches_under_each_of_its_names(model: str) -> None:
    configuration = read_configuration(SEED_TEXT)

    assert [each.webhook_endpoint for each in configuration.matching(model, "updated")] == ["webhook/order"]
    assert configuration.matching(model, "deleted") == []


def test_every_matching_entry_is_given_in_order_and_a_model_named_twice_counts_once() -> None:
    document = small(
        webhook_settings=[
            entry(models=["Order", "App\\Order"], events=["created", "created"], priority=2),
            entry(models=["Order"], events=["created"], priority=3),
            entry(models=["Quotation"], events=["created"]),
        ]
    )
    assert [each.priority for each in parse_configuration(document).matching("Order", "created")] == [2, 3]


def test_every_mistake_is_named_with_its_path_at_once() -> None:
    document = small(
        plugin_port=70000,
        plugin_routes=[{"route": "webhook/order", "method": "FETCH"}],
        route_handlers={"webhook/order/export": "os.system"},
        webhook_settings=[
            entry(priority=11, delay=-1, target_class="App\\Handler"),
            entry(pipeline=[{"handler_class": "X", "retry_attempts": 0, "timeout": 0}]),
            entry(models=["Order"], events=["exploded"]),
        ],
    )
    found = problems(document)

    assert set(found) == {
        "plugin_port",
        "plugin_routes[0].method",
        "route_handlers.webhook/order/export",
        "webhook_settings[0].priority",
        "webhook_settings[0].delay",
        "webhook_settings[0].target_class",
        "webhook_settings[1].pipeline[0].retry_attempts",
        "webhook_settings[1].pipeline[0].timeout",
        "webhook_settings[2].events[0]",
    }
    assert "70000" in found["plugin_port"]
    assert "bare name" in found["webhook_settings[0].target_class"]


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"plugin_port": "5000"}, "plugin_port"),
        ({"plugin_port": True}, "plugin_port"),
        ({"plugin_route_prefix": "../etc"}, "plugin_route_prefix"),
        ({"plugin_name": ""}, "plugin_name"),
        ({"auth": {"url": "file:///etc/passwd"}}, "auth.url"),
        ({"auth": {"url": "https://user:pass@host/"}}, "auth.url"),
        ({"production": "yes"}, "production"),
        ({"plugin_routes": [{"route": "../secrets", "method": "GET"}]}, "plugin_routes[0].route"),
        ({"webhook_settings": [entry(models=["Order"])]}, "webhook_settings[0]"),
        ({"webhook_settings": [entry(events=["created"])]}, "webhook_settings[0]"),
        ({"webhook_settings": [entry(pipeline=[])]}, "webhook_settings[0].pipeline"),
        ({"webhook_settings": [entry(priority=True)]}, "webhook_settings[0].priority"),
        (
            {"webhook_settings": [entry(models=["Order"], events=["created"], queue_mode="sync")]},
            "webhook_settings[0]",
        ),
        ({"webhook_settings": [entry(priority=5), entry(priority=5)]}, "webhook_settings[1]"),
        ({"webhook_settings": [entry(id="a"), entry(id="a", priority=1)]}, "webhook_settings[1]"),
        ({"webhook_settings": {"0": entry()}}, "webhook_settings"),
    ],
)
def test_a_mistake_is_found_at_its_path(changes: dict[str, Any], path: str) -> None:
    assert set(problems(small(**changes))) == {path}


@pytest.mark.parametrize("document", [None, [], "x", {"a": 1 << 70}, {"a": "x" * 300_000}])
def test_what_is_no_usable_object_is_refused_as_a_whole(document: object) -> None:
    assert set(problems(document)) == {""}


def test_missing_keys_are_named() -> None:
    assert set(problems({})) == {"plugin_name", "plugin_route_prefix"}


@pytest.mark.parametrize("text", ["{", '{"a": 1, "a": 2}', "[" * 5000, '{"a": ' + "1" * 300_000 + "}"])
def test_a_file_that_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="file"):
        read_configuration(text)


def test_unknown_keys_and_shadowed_endpoints_are_noted_not_refused() -> None:
    configuration = parse_configuration(small(colour="red", webhook_settings=[entry(prio=9), entry(priority=1)]))

    assert [note.path for note in configuration.notes()] == [
        "colour",
        "webhook_settings[0].prio",
        "webhook_settings[1].webhook_endpoint",
    ]
    assert next(note.path for note in configuration.notes({"colour"})) == "webhook_settings[0].prio"
    assert configuration.document["colour"] == "red"


def test_an_entrys_identity_is_its_id_or_depends_on_its_content_alone() -> None:
    first = parse_configuration(small(webhook_settings=[entry(priority=1, delay=0), entry(id="mine")]))
    second = parse_configuration(small(webhook_settings=[entry(id="mine"), entry(delay=0, priority=1)]))
    third = parse_configuration(small(webhook_settings=[entry(id="mine", priority=3), entry(delay=1, priority=1)]))

    assert first.webhook_settings[0].entry_id == second.webhook_settings[1].entry_id
    assert first.webhook_settings[0].entry_id != third.webhook_settings[1].entry_id
    assert first.webhook_settings[1].entry_id == third.webhook_settings[0].entry_id == "mine"
    assert first.entry("mine") is first.webhook_settings[1]
    assert first.entry("gone") is None
    assert first.entry(None) is None


def test_no_secret_shows_in_repr_mask_or_errors() -> None:
    canary = "canary-7f3a"
    auth = {"url": "https://up.example", "secret": canary, "client_id": "acme", "password": canary, "pin": canary}
    configuration = parse_configuration(small(auth=auth, smtp={"password": canary, "host": "mail"}, api_key=canary))

    assert canary not in repr(configuration)
    assert canary not in str(configuration)
    assert canary not in str(configuration.masked())
    assert configuration.masked()["smtp"]["host"] == "mail"
    assert configuration.masked()["auth"]["client_id"] == "acme"
    assert configuration.document["auth"]["password"] == canary
    with pytest.raises(ConfigurationError) as caught:
        parse_configuration(small(auth={"url": f"https://u:{canary}@host", "secret": [canary]}))
    assert canary not in str(caught.value)
    assert caught.value.__cause__ is None


def test_what_coalesces_says_for_how_long_and_nothing_else_about_time() -> None:
    periods = {"quiet_s": 2, "max_wait_s": 10}
    document = small(webhook_settings=[entry(coalesce=periods | {"key": "customer.id"})])
    [found] = parse_configuration(document).webhook_settings
    assert found.coalesce is not None
    assert (found.coalesce.key, found.coalesce.quiet_s, found.coalesce.max_wait_s) == (["customer.id"], 2, 10)

    wrong = [
        entry(coalesce=periods, delay=5),
        entry(coalesce=periods, ordering="strict"),
        entry(coalesce=periods, queue_mode="foreground"),
        entry(coalesce={"quiet_s": 20, "max_wait_s": 10}),
        entry(coalesce={"quiet_s": 0, "max_wait_s": 10}),
        entry(coalesce={"quiet_s": 1}),
    ]
    assert sorted(problems(small(webhook_settings=wrong))) == [
        "webhook_settings[0]",
        "webhook_settings[1]",
        "webhook_settings[2]",
        "webhook_settings[3].coalesce",
        "webhook_settings[4].coalesce.quiet_s",
        "webhook_settings[5].coalesce.max_wait_s",
    ]


def test_a_singleton_is_a_mode_alone_or_with_its_key() -> None:
    entries = [entry(id="a", singleton="skip"), entry(id="b", singleton={"mode": "queue", "key": ["id"]})]
    found = [each.singleton for each in parse_configuration(small(webhook_settings=entries)).webhook_settings]
    assert [(each.mode, each.key) for each in found if each] == [("skip", []), ("queue", ["id"])]
    wrong = [
        entry(singleton="never"),
        entry(singleton="skip", ordering="strict"),
        entry(singleton="skip", coalesce={"quiet_s": 1, "max_wait_s": 1}),
    ]
    assert sorted(problems(small(webhook_settings=wrong))) == [
        "webhook_settings[0].singleton.mode",
        "webhook_settings[1]",
        "webhook_settings[2]",
    ]
