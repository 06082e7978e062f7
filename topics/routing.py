"""Which tier an event goes to. Rules are data, tried in order; the functions are pure and total.

A rule picks a list of tiers, health and load pick one of them. Only new triggers are routed: a retry goes back to its
own tier (R14) and a redelivered one to the tier recorded at acceptance (R9).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from topics.health import HealthSnapshot
from topics.tiers import BEANSTALK, DB, FAILED, HIGH, LOW, REDIS, TIERS

Field: TypeAlias = Literal["priority", "delay_s", "attempts", "event_type"]
Match: TypeAlias = Literal["smart", "all"]

LOWEST_PRIORITY: Final = 1
HIGHEST_PRIORITY: Final = 10
DEFAULT_PRIORITY: Final = 5
HIGH_EVENT_PRIORITY: Final = 9
MODEL_EVENT_PRIORITIES: Final[Mapping[str, int]] = {"created": 6, "updated": 5, "deleted": 7}

HIGH_EVENT_TYPES: Final = ("payment_completed", "order_cancelled", "urgent_notification")
LOW_EVENT_TYPES: Final = ("data_sync", "report_generation", "cleanup")

OPERATORS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    ">": lambda value, operand: bool(value > operand),
    ">=": lambda value, operand: bool(value >= operand),
    "<": lambda value, operand: bool(value < operand),
    "<=": lambda value, operand: bool(value <= operand),
    "=": lambda value, operand: bool(value == operand),
    "!=": lambda value, operand: bool(value != operand),
    "between": lambda value, operand: bool(operand[0] <= value <= operand[1]),
    "in": lambda value, operand: value in operand,
}
"""Every operator of a condition. ``between`` takes a pair and includes both ends, ``in`` takes a list."""


@dataclass(frozen=True, slots=True)
class RouteRequest:
    """What routing looks at. ``delay_s`` in seconds; ``attempts`` are tries made before this trigger."""

    event_type: str
    priority: int
    delay_s: int
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison of a request's field with a fixed value. Raises ``ValueError`` where they cannot be compared."""

    field: Field
    operator: str
    operand: Any

    def __post_init__(self) -> None:
        name = f"condition on {self.field}"
        if self.operator not in OPERATORS:
            raise ValueError(f"{name}: unknown operator {self.operator!r}; known are {' '.join(OPERATORS)}")
        kind: type = str if self.field == "event_type" else int
        if self.operator == "in":
            values = self.operand
            good = isinstance(values, list | tuple)
        elif self.operator == "between":
            values = self.operand
            good = isinstance(values, list | tuple) and len(values) == 2
        else:
            values = (self.operand,)
            good = True
        if not good or any(isinstance(value, bool) or not isinstance(value, kind) for value in values):
            shape = {"in": "a list of", "between": "a pair of"}.get(self.operator, "one")
            raise ValueError(f"{name}: {self.operator!r} takes {shape} {kind.__name__}, not {self.operand!r}")

    def holds(self, request: RouteRequest) -> bool:
        """Whether the request meets the condition."""
        return OPERATORS[self.operator](getattr(request, self.field), self.operand)


@dataclass(frozen=True, slots=True)
class Rule:
    """Tiers, most wanted first, and the conditions under which they are taken.

    A request matches where every condition of ``every`` holds, none of ``none`` does, and one of ``some`` does
    (if there are any). Raises ``ValueError`` for no tier or an unknown one.
    """

    name: str
    tiers: tuple[str, ...]
    every: tuple[Condition, ...] = ()
    some: tuple[Condition, ...] = ()
    none: tuple[Condition, ...] = ()

    def __post_init__(self) -> None:
        unknown = [tier for tier in self.tiers if tier not in TIERS]
        if unknown or not self.tiers:
            what = f"unknown tier {unknown[0]!r}" if unknown else "no tier"
            raise ValueError(f"routing rule {self.name}: {what}; known are {', '.join(TIERS)}")

    def matches(self, request: RouteRequest) -> bool:
        """Whether the rule takes the request."""
        return (
            all(condition.holds(request) for condition in self.every)
            and not any(condition.holds(request) for condition in self.none)
            and (not self.some or any(condition.holds(request) for condition in self.some))
        )


@dataclass(frozen=True, slots=True)
class Route:
    """Where an event goes and why.

    ``failover_from`` is the more wanted tier that was passed over as unhealthy. ``degraded``: no tier of the rule was
    healthy, so its first was taken (R17).
    """

    tier: str
    rule: str
    failover_from: str | None = None
    degraded: bool = False


_FAILED_RULE: Final = Rule("failed_retry", (FAILED.name,), every=(Condition("attempts", ">", 3),))

DEFAULT_ROUTING: Final[Mapping[str, Any]] = {
    "high_priority": {
        "drivers": [HIGH.name, BEANSTALK.name, REDIS.name],
        "conditions": {"priority": [">=", 8], "delay": ["<", 60], "event_types": list(HIGH_EVENT_TYPES)},
    },
    "default": {
        "drivers": [BEANSTALK.name, REDIS.name, DB.name],
        "conditions": {},
    },
    "low_priority": {
        "drivers": [LOW.name, DB.name],
        "conditions": {"priority": ["<", 3], "delay": [">", 300], "event_types": list(LOW_EVENT_TYPES)},
    },
}
"""The rules that hold where no configuration names others, in the shape that ``rules_from`` reads."""


def rules_from(routing: Mapping[str, Any], match: Match = "smart") -> tuple[Rule, ...]:
    """The rules that a ``webhook_routing`` configuration means, in the order in which they are tried.

    ``routing`` has the keys ``high_priority``, ``default`` and ``low_priority``, each
    ``{"drivers": [tier, ...], "conditions": {"priority": [operator, value], "delay": [...], "event_types": [...]}}``.
    ``all``: every condition of a rule must hold. ``smart``: an urgent event needs its delay bound and either the
    priority or a listed name; a bulk one needs any of its three conditions, unless it has the priority or the name
    of an urgent one. The conditions of ``default`` are checked for form and not applied: it takes all the rest.
    Raises ``ValueError`` that names the path of what is wrong.
    """
    if match not in ("smart", "all"):
        raise ValueError(f"webhook_routing.match: {match!r} is neither 'smart' nor 'all'")
    if set(routing) != set(DEFAULT_ROUTING):
        raise ValueError(f"webhook_routing: needs exactly the rules {', '.join(DEFAULT_ROUTING)}")
    tiers: dict[str, tuple[str, ...]] = {}
    conditions: dict[str, dict[str, Condition]] = {}
    for name, rule in routing.items():
        tiers[name], conditions[name] = _read_rule(f"webhook_routing.{name}", rule)
    high, low = conditions["high_priority"], conditions["low_priority"]
    if match == "all":
        urgent = Rule("high_priority", tiers["high_priority"], every=tuple(high.values()))
        bulk = Rule("low_priority", tiers["low_priority"], every=tuple(low.values()))
    else:
        signs = tuple(high[key] for key in ("priority", "event_types") if key in high)
        bound = tuple(high[key] for key in ("delay",) if key in high)
        urgent = Rule("high_priority", tiers["high_priority"], every=bound, some=signs)
        bulk = Rule("low_priority", tiers["low_priority"], some=tuple(low.values()), none=signs)
    return (_FAILED_RULE, urgent, bulk, Rule("default", tiers["default"]))


def _read_rule(path: str, rule: Any) -> tuple[tuple[str, ...], dict[str, Condition]]:
    if not isinstance(rule, Mapping):
        raise ValueError(f"{path}: must be an object with drivers and conditions")
    drivers, conditions = rule.get("drivers"), rule.get("conditions", {})
    if not isinstance(drivers, list) or not drivers or any(driver not in TIERS for driver in drivers):
        raise ValueError(f"{path}.drivers: must be a list of tiers; known are {', '.join(TIERS)}")
    if not isinstance(conditions, Mapping):
        raise ValueError(f"{path}.conditions: must be an object")
    read: dict[str, Condition] = {}
    fields: dict[str, Field] = {"priority": "priority", "delay": "delay_s", "event_types": "event_type"}
    for key, value in conditions.items():
        if key not in fields:
            raise ValueError(f"{path}.conditions.{key}: unknown; known are {', '.join(fields)}")
        pair = ["in", value] if key == "event_types" else value
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[0], str):
            raise ValueError(f"{path}.conditions.{key}: must be [operator, value], not {value!r}")
        try:
            read[key] = Condition(fields[key], pair[0], pair[1])
        except ValueError as error:
            raise ValueError(f"{path}.conditions.{key}: {error}") from error
    return tuple(drivers), read


DEFAULT_RULES: Final = rules_from(DEFAULT_ROUTING)


def route(request: RouteRequest, rules: Sequence[Rule], health: HealthSnapshot, turn: int = 0) -> Route:
    """The tier for a request: first rule that matches, unhealthy tiers skipped, then the least load.

    ``turn`` counts earlier choices, from 0; tiers of equal load take turns by it, the most wanted first.
    Raises ``ValueError`` where no rule matches; ``rules_from`` always ends with one that does.
    """
    rule = next((rule for rule in rules if rule.matches(request)), None)
    if rule is None:
        raise ValueError(f"no routing rule takes {request}; end the rules with one that has no conditions")
    usable = [tier for tier in rule.tiers if health.of(tier).is_usable]
    if not usable:
        return Route(rule.tiers[0], rule.name, degraded=True)
    least = min(health.of(tier).load for tier in usable)
    candidates = [tier for tier in usable if health.of(tier).load == least]
    chosen = candidates[turn % len(candidates)]
    more_wanted = rule.tiers[: rule.tiers.index(chosen)]
    passed_over = next((tier for tier in more_wanted if tier not in usable), None)
    return Route(chosen, rule.name, failover_from=passed_over)


def priority_of(
    event_type: str,
    *,
    option: int | None = None,
    model_method: int | None = None,
    settings_entry: int | None = None,
    model_event: str | None = None,
    high_event_types: Sequence[str] = HIGH_EVENT_TYPES,
) -> int:
    """The priority of an event, 1 to 10: the first that is given, in the order below.

    ``option`` of the caller; 9 for a listed urgent event; ``model_method`` (what the model's own method said, brought
    into 1..10); ``settings_entry`` of the tenant; 6, 5 or 7 for a model that was created, updated or deleted; 5.
    Raises ``ValueError`` for an ``option`` or ``settings_entry`` outside 1..10, used or not.
    """
    _check_priority("option priority", option)
    _check_priority("webhook_settings priority", settings_entry)
    if option is not None:
        return option
    if event_type in high_event_types:
        return HIGH_EVENT_PRIORITY
    if model_method is not None:
        return min(max(int(model_method), LOWEST_PRIORITY), HIGHEST_PRIORITY)
    if settings_entry is not None:
        return settings_entry
    return MODEL_EVENT_PRIORITIES.get(model_event or "", DEFAULT_PRIORITY)


def _check_priority(name: str, value: object) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or not LOWEST_PRIORITY <= value <= HIGHEST_PRIORITY:
        raise ValueError(f"{name}: {value!r} is not a whole number from {LOWEST_PRIORITY} to {HIGHEST_PRIORITY}")
