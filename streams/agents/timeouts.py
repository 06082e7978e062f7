"""Which handlers may run longer than their tier's ``retry_after_s``: elsewhere such a task would run twice."""

from collections.abc import Iterable

import structlog

from handlers.registry import PluginRegistry
from topics.tiers import TIERS

_log = structlog.get_logger(__name__)


def longer_than_retry_after(
    tiers: Iterable[str], plugins: PluginRegistry, default_timeout_s: float
) -> dict[str, dict[str, float]]:
    """By tier the handlers, as ``plugin/name``, that may run longer than its ``retry_after_s``, with their seconds.

    ``default_timeout_s`` holds for handlers that name no ``timeout_s``; they are shown as ``*``.
    """
    timeouts = {"*": default_timeout_s}
    for plugin in plugins.plugins.values():
        for name in plugin.handlers:
            timeout_s = getattr(plugin.handler(name), "timeout_s", None)
            if timeout_s:
                timeouts[f"{plugin.id}/{name}"] = float(timeout_s)
    found = {
        tier: {name: timeout_s for name, timeout_s in timeouts.items() if timeout_s > TIERS[tier].retry_after_s}
        for tier in tiers
    }
    return {tier: handlers for tier, handlers in found.items() if handlers}


def warn_of_timeouts(tiers: Iterable[str], plugins: PluginRegistry, default_timeout_s: float) -> None:
    """Say once, at a worker's start, what runs longer than operators of other queues would expect (R14)."""
    longer = longer_than_retry_after(tiers, plugins, default_timeout_s)
    if longer:
        _log.warning(
            "handlers may run longer than their tier's retry_after_s; here that repeats nothing, because no task "
            "is given to another worker for the time it takes",
            retry_after_s={tier: TIERS[tier].retry_after_s for tier in longer},
            timeout_s={name: timeout_s for handlers in longer.values() for name, timeout_s in handlers.items()},
        )
