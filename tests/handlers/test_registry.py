import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from handlers.registry import ENTRY_POINT_GROUP, PluginMissing, PluginRegistry, load_plugins
from handlers.tenants.configuration import parse_configuration
from schemas.errors import Retryable
from tests.handlers.examples import small

GOOD = """
from handlers.contract import PluginManifest
from handlers.results import Completed

class Order:
    async def handle(self, payload, context):
        return Completed({})

PLUGIN = PluginManifest(id="acme", version="1.2", handlers={"OrderWebhookHandler": Order}, aliases=("acme.example",))
OTHER = PluginManifest(id="other", version="1", handlers={}, aliases=("acme",))
NEWER = PluginManifest(id="newer", version="1.2", handlers={}, api_version=2)
IDLE = PluginManifest(id="idle", version="1", handlers={"X": object})
NAMED = PluginManifest(id="No Such", version="1", handlers={})
RANGE = PluginManifest(id="range", version="1", handlers={}, supports="two")
TWO = PluginManifest(id="two", version="2.1", handlers={"OrderWebhookHandler": Order}, supports=">=2,<3")
"""


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "plug_good.py").write_text(GOOD)
    (tmp_path / "plug_raises.py").write_text("raise RuntimeError('no licence')")
    (tmp_path / "plug_exits.py").write_text("import sys; sys.exit(3)")
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("plug_")]:
        del sys.modules[name]


def load(**points: str) -> PluginRegistry:
    return load_plugins([EntryPoint(name, value, ENTRY_POINT_GROUP) for name, value in points.items()])


@pytest.mark.usefixtures("modules")
def test_a_good_plugin_is_found_by_id_alias_and_configuration() -> None:
    registry = load(acme="plug_good:PLUGIN")

    acme = registry.find("acme")
    assert acme is not None
    assert registry.broken == ()
    assert registry.find("acme.example") is acme
    assert registry.find("nobody") is None
    by_prefix = parse_configuration(small(plugin_route_prefix="acme"))
    by_name = parse_configuration(small(plugin_route_prefix="elsewhere", plugin_name="acme.example"))
    assert registry.require(by_prefix) is registry.require(by_name) is acme
    assert acme.handler("OrderWebhookHandler") is acme.handler("OrderWebhookHandler")
    assert acme.handler("system") is None


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("plug_raises:PLUGIN", "RuntimeError: no licence"),
        ("plug_exits:PLUGIN", "SystemExit: 3"),
        ("plug_absent:PLUGIN", "No module named 'plug_absent'"),
        ("plug_good:ABSENT", "ABSENT"),
        ("plug_good:Order", "names a type"),
        ("plug_good:NEWER", "newer 1.2 needs plugin API 2, this is 1"),
        ("plug_good:IDLE", "its handler X has neither"),
        ("plug_good:NAMED", "must be lower-case"),
        ("plug_good:RANGE", "`supports` 'two' is no version range"),
    ],
)
def test_a_broken_plugin_is_listed_and_the_others_still_load(value: str, reason: str) -> None:
    registry = load(bad=value, acme="plug_good:PLUGIN")

    assert set(registry.plugins) == {"acme"}
    (broken,) = registry.broken
    assert broken.name == "bad"
    assert reason in broken.reason
    with pytest.raises(PluginMissing, match="broken"):
        registry.require(parse_configuration(small(plugin_route_prefix="bad")))


@pytest.mark.usefixtures("modules")
def test_two_plugins_of_one_name_do_not_replace_each_other() -> None:
    registry = load(acme="plug_good:PLUGIN", other="plug_good:OTHER")

    assert set(registry.plugins) == {"acme"}
    assert "already has the name 'acme'" in registry.broken[0].reason


def test_a_missing_plugin_is_named_with_what_is_installed() -> None:
    with pytest.raises(PluginMissing, match="'dwd' is not installed; installed are: none") as caught:
        load().require(parse_configuration(small(plugin_name="x")))
    # Its events are not given up: they run once the package is back.
    assert isinstance(caught.value, Retryable)


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize(
    ("changes", "path", "words"),
    [
        ({}, None, ""),
        ({"plugin__v": "2.9.1"}, None, ""),
        ({"plugin__v": "3.0.0"}, "plugin__v", "two 2.1 is made for versions >=2,<3, not 3.0.0"),
        ({"plugin__v": "1.9"}, "plugin__v", "not 1.9"),
        ({"plugin__v": "latest"}, "plugin__v", "not latest"),
        ({"plugin_route_prefix": "gone", "plugin_name": "x"}, "plugin_route_prefix", "not installed"),
        ({"route_handlers": {"webhook/x": "Gone"}}, "route_handlers.webhook/x", "has no handler Gone"),
    ],
)
def test_a_configuration_is_compared_with_the_installed_plugin(
    changes: dict[str, str], path: str | None, words: str
) -> None:
    registry = load(two="plug_good:TWO")

    problems = registry.problems(parse_configuration(small(**{"plugin_route_prefix": "two", **changes})))
    assert [each.path for each in problems] == ([] if path is None else [path])
    assert all(words in each.reason for each in problems)
