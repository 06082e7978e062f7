"""The warning of timeouts beyond a tier's retry_after_s (R14)."""

from typing import Any

from structlog.testing import capture_logs

from handlers.contract import Context, PluginManifest
from handlers.dwd.manifest import PLUGIN as DWD
from handlers.printcom.manifest import PLUGIN as PRINTCOM
from handlers.registry import PluginRegistry
from handlers.results import Completed
from streams.agents.timeouts import longer_than_retry_after, warn_of_timeouts
from topics.tiers import TIERS


class Usual:
    async def handle(self, payload: dict[str, Any], context: Context) -> Completed:
        return Completed({})


class Slow(Usual):
    timeout_s = 120.0


PLUGINS = PluginRegistry({"acme": PluginManifest("acme", "1", {"Slow": Slow, "Usual": Usual})})


def test_a_handler_is_named_in_the_tiers_that_would_retry_before_its_timeout() -> None:
    """R14: high waits 60 s, low 600 s."""
    longer = longer_than_retry_after(["webhook-high", "webhook-low"], PLUGINS, default_timeout_s=30.0)
    assert longer == {"webhook-high": {"acme/Slow": 120.0}}
    by_default = longer_than_retry_after(["webhook-low"], PLUGINS, default_timeout_s=700.0)
    assert by_default == {"webhook-low": {"*": 700.0}}


def test_a_worker_says_it_once() -> None:
    with capture_logs() as logs:
        warn_of_timeouts(TIERS, PLUGINS, 30.0)
        warn_of_timeouts(["webhook-low"], PLUGINS, 30.0)
    assert [(each["log_level"], each["timeout_s"]) for each in logs] == [("warning", {"acme/Slow": 120.0})]


def test_the_vendors_longest_calls_are_among_them() -> None:
    plugins = PluginRegistry({"dwd": DWD, "printcom": PRINTCOM})
    assert longer_than_retry_after(["webhook-high"], plugins, 30.0)["webhook-high"]
