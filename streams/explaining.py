"""What a change or a trigger would lead to, and why; nothing is sent. Pure.

It asks the same functions that intake and workers ask, so that it cannot say anything else than they do.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from handlers.contract import PluginManifest
from handlers.resolution import Resolution, resolve
from handlers.tenants.configuration import SettingsEntry, TenantConfiguration, bare_model_name
from schemas.errors import Permanent
from schemas.events import ModelChanged, WebhookRequested
from streams.agents.matching import Candidate, candidate_of_request, candidates_of_change
from topics.health import HealthSnapshot
from topics.routing import DEFAULT_RULES, HIGH_EVENT_TYPES, MODEL_EVENT_PRIORITIES, RouteRequest, route

_FOUND: Final = {
    "pipeline": "the entry's pipeline",
    "route_handlers": "route_handlers",
    "target_class": "the entry's target_class",
    "convention": "by its name, after the endpoint",
    "sidecar": "none of its own: forwarded to the sidecar",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """One settings entry, or a trigger without one. Where ``fires`` is false only ``why`` says more.

    ``handlers`` in the order of their steps; none where no handler is found: the event then fails for good. ``tier`` is
    what intake takes while every tier is well and equally loaded; ``tier_why`` names what it may take else.
    """

    fires: bool
    why: str
    settings_entry: str | None
    endpoint: str
    event_type: str | None = None
    handlers: tuple[str, ...] = ()
    handlers_why: str | None = None
    priority: int | None = None
    priority_why: str | None = None
    tier: str | None = None
    tier_why: str | None = None
    waits: str | None = None


def explain_change(
    change: ModelChanged, configuration: TenantConfiguration, manifest: PluginManifest
) -> list[Explained]:
    """Every settings entry that names models, in the document's order. Raises ``Unroutable`` as intake does."""
    found = {each.settings_entry: each for each in candidates_of_change(change, configuration)}
    explained = []
    for entry in configuration.webhook_settings:
        candidate = found.get(entry.entry_id)
        if candidate is not None:
            model = f"{bare_model_name(change.model)} {change.model_event}"
            why = f"the entry names {model}"
            priority_why = _priority_why(candidate, entry, change=change)
            explained.append(_explained(candidate, why, priority_why, entry, (configuration, manifest)))
        elif entry.models:
            explained.append(_not_fired(change, entry))
    return explained


def explain_request(
    request: WebhookRequested, configuration: TenantConfiguration, manifest: PluginManifest
) -> Explained:
    """The event of a trigger. Raises ``Unroutable`` as intake does."""
    candidate = candidate_of_request(request, configuration)
    entry = configuration.entry_for(request.endpoint)
    why = "a trigger always fires" + (", with what its endpoint's first entry says" if entry else "")
    priority_why = _priority_why(candidate, entry, request=request)
    return _explained(candidate, why, priority_why, entry, (configuration, manifest))


def _not_fired(change: ModelChanged, entry: SettingsEntry) -> Explained:
    model = bare_model_name(change.model)
    if model not in entry.models:
        why = f"it names {', '.join(entry.models)}, not {model}"
    else:
        why = f"of {model} it names {', '.join(entry.events)}, not {change.model_event}"
    return Explained(fires=False, why=why, settings_entry=entry.entry_id, endpoint=entry.webhook_endpoint)


def _explained(
    candidate: Candidate,
    why: str,
    priority_why: str,
    entry: SettingsEntry | None,
    tenant: tuple[TenantConfiguration, PluginManifest],
) -> Explained:
    handlers, handlers_why = _handlers(candidate, entry, *tenant)
    asked = RouteRequest(candidate.event_type, candidate.priority, candidate.delay_s)
    chosen = route(asked, DEFAULT_RULES, HealthSnapshot())
    rule = next(each for each in DEFAULT_RULES if each.name == chosen.rule)
    home = "its home in strict order" if candidate.lane else f"of {', '.join(rule.tiers)} by health and load"
    return Explained(
        fires=True,
        why=why,
        settings_entry=candidate.settings_entry,
        endpoint=candidate.endpoint,
        event_type=candidate.event_type,
        handlers=handlers,
        handlers_why=handlers_why,
        priority=candidate.priority,
        priority_why=priority_why,
        tier=chosen.tier,
        tier_why=f"rule {chosen.rule}, {home}",
        waits=", ".join(_waits(candidate)) or None,
    )


def _handlers(
    candidate: Candidate, entry: SettingsEntry | None, configuration: TenantConfiguration, manifest: PluginManifest
) -> tuple[tuple[str, ...], str]:
    try:
        found: Resolution = resolve(candidate.endpoint, configuration, manifest, entry)
    except Permanent as error:
        return (), f"it would fail for good: {error}"
    return tuple(step.handler_name for step in found.steps), _FOUND[found.source]


def _waits(candidate: Candidate) -> Iterator[str]:
    if candidate.delay_s:
        yield f"{candidate.delay_s} s first"
    if candidate.lane:
        yield "for its turn in its strict lane"
    if candidate.singleton:
        yield f"for no other alike ({candidate.singleton.mode})"
    if candidate.coalescing:
        periods = candidate.coalescing.periods
        yield f"until nothing alike has come for {periods.quiet_s:g} s, {periods.max_wait_s:g} s at most"


def _priority_why(
    candidate: Candidate,
    entry: SettingsEntry | None,
    change: ModelChanged | None = None,
    request: WebhookRequested | None = None,
) -> str:
    """In the order of ``topics.routing.priority_of``."""
    if request is not None and request.priority is not None:
        return "the trigger's own"
    if candidate.event_type in HIGH_EVENT_TYPES:
        return f"{candidate.event_type} is urgent"
    if change is not None and change.priority is not None:
        return "the model's own method"
    if entry is not None and entry.priority is not None:
        return "the entry's"
    if change is not None and change.model_event in MODEL_EVENT_PRIORITIES:
        return f"what is {change.model_event} has it"
    return "nobody says otherwise"
