from collections.abc import Mapping
from typing import Any

import pytest

from handlers.contract import PluginManifest
from handlers.registry import PluginRegistry, load_plugins
from handlers.tenants.configuration import ConfigurationError
from handlers.tenants.validation import validate, validate_text
from tests.handlers.examples import SEED_TEXT, small

CANARY = "canary-51"
SCHEMA = {
    "required": ["auth", "margin"],
    "properties": {
        "auth": {
            "required": ["pin", "user"],
            "properties": {"pin": {"type": "integer"}, "mode": {"enum": ["live", "test"]}},
        },
        "margin": {"type": "number", "minimum": 0, "maximum": 100},
        "sizes": {"type": "array", "maxItems": 2, "items": {"type": "string", "pattern": "^[A-Z]+$"}},
        "address": {"additionalProperties": False, "properties": {"street": {"type": "string"}}},
        "either": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    },
}


def plugins(schema: Mapping[str, Any] = SCHEMA) -> PluginRegistry:
    return PluginRegistry({"dwd": PluginManifest("dwd", "1.0", {}, config_schema=schema)})


def problems(document: object, registry: PluginRegistry) -> dict[str, str]:
    with pytest.raises(ConfigurationError) as caught:
        validate(document, registry)
    assert CANARY not in str(caught.value)
    return {each.path: each.reason for each in caught.value.problems}


def test_every_mistake_against_rules_and_schema_is_named_at_once_and_no_value_shown() -> None:
    document = small(
        plugin_port=0,
        auth={"url": "https://up.example", "pin": CANARY, "mode": CANARY},
        margin=-1,
        sizes=["A", CANARY, 7],
        address={CANARY[:3]: CANARY, "street": 1},
        either=[CANARY],
    )
    found = problems(document, plugins())

    assert set(found) == {
        "plugin_port",
        "auth.pin",
        "auth.user",
        "auth.mode",
        "margin",
        "sizes",
        "sizes[1]",
        "sizes[2]",
        "address.can",
        "address.street",
        "either",
    }
    assert found["auth.pin"] == "must be of type integer"
    assert found["auth.mode"] == "must be one of live, test"
    assert found["auth.user"] == "is missing"
    assert found["margin"] == "must be at least 0"
    assert found["sizes"] == "must have at most 2 items"
    assert found["address.can"] == "is not allowed here"
    assert "anyOf" in found["either"]


def test_a_mistake_is_named_once_where_rules_and_schema_see_it() -> None:
    schema = {"properties": {"plugin_port": {"maximum": 10}}}
    with pytest.raises(ConfigurationError) as caught:
        validate(small(plugin_port=70000), plugins(schema))
    assert [each.path for each in caught.value.problems] == ["plugin_port"]


def test_what_fits_passes_and_an_alias_names_the_plugin_too() -> None:
    good = small(auth={"pin": 1, "user": "u", "mode": "live"}, margin=3, sizes=["A"])
    assert validate(good, plugins()).document["margin"] == 3
    aliased = PluginRegistry({"x": PluginManifest("x", "1", {}, aliases=("drukwerkdeal.nl",), config_schema=SCHEMA)})
    assert "margin" in problems(small(), aliased)


def test_without_its_plugin_a_configuration_is_checked_by_its_own_rules_alone() -> None:
    assert validate(small(), PluginRegistry()).plugin_name == "drukwerkdeal.nl"
    assert set(problems({}, PluginRegistry())) == {"plugin_name", "plugin_route_prefix"}
    assert set(problems([], plugins())) == {""}


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "nonsense"}, "the schema is wrong at"),
        ({"$ref": "https://schemas.example/x.json"}, "refers to https://schemas.example/x.json"),
        ({"properties": {"auth": {"$ref": "#/nowhere"}}}, "refers to"),
    ],
)
def test_a_plugins_own_mistake_is_told_as_such_and_nothing_is_fetched(schema: dict[str, Any], words: str) -> None:
    found = problems(small(), plugins(schema))
    assert "plugin dwd 1.0 cannot check" in found[""]
    assert words in found[""]


def test_the_seeds_example_fits_the_plugin_that_comes_along() -> None:
    assert validate_text(SEED_TEXT, load_plugins()).plugin_name == "drukwerkdeal.nl"
    with pytest.raises(ConfigurationError, match=r"auth\.secret: is missing"):
        validate(small(auth={"url": "https://up.example", "client_id": "acme"}), load_plugins())
