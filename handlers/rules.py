"""Declarative rules for payloads: a handler lists what must hold, and every fault is told at once.

A handler extends a list by adding to it: ``rules = (*WEBHOOK_RULES, Required("sku"))``.
"""

import hashlib
import hmac
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol


@dataclass(frozen=True, slots=True)
class Received:
    """A payload with what is known of its arrival.

    ``body`` and ``headers`` (names in lower case) are the request's where it came by HTTP; ``secret`` is the tenant's.
    """

    payload: Mapping[str, Any]
    tenant_id: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    secret: str | None = None


class Rule(Protocol):
    """One thing that must hold."""

    @property
    def checks(self) -> tuple[str, ...]:
        """Names of the fields it looks at."""

    def faults(self, received: Received) -> Iterator[str]:
        """What is wrong, in words for people; nothing where it holds."""


@dataclass(frozen=True, slots=True)
class Required:
    """The field is there and not null. ``reason`` replaces the usual words."""

    name: str
    reason: str = ""

    @property
    def checks(self) -> tuple[str, ...]:
        """See ``Rule``."""
        return (self.name,)

    def faults(self, received: Received) -> Iterator[str]:
        """See ``Rule``."""
        if received.payload.get(self.name) is None:
            yield self.reason or f"{self.name} is missing"


@dataclass(frozen=True, slots=True)
class Number:
    """The field, where it is set, is a number within bounds: text that reads as one passes, NaN and booleans do not."""

    name: str
    least: float = -math.inf
    most: float = math.inf
    whole: bool = False

    @property
    def checks(self) -> tuple[str, ...]:
        """See ``Rule``."""
        return (self.name,)

    def faults(self, received: Received) -> Iterator[str]:
        """See ``Rule``."""
        value = received.payload.get(self.name)
        if value is not None and not self._holds(value):
            kind = "whole number" if self.whole else "number"
            bounds = f" of {self.least:g} or more" if math.isfinite(self.least) else ""
            bounds += f" and at most {self.most:g}" if math.isfinite(self.most) else ""
            yield f"{self.name} must be a {kind}{bounds}, not {value!r:.80}"

    def _holds(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            return False
        try:
            number = float(value)
        except (ValueError, OverflowError):
            return False
        whole = number.is_integer() and not isinstance(value, float) if self.whole else True
        return math.isfinite(number) and whole and self.least <= number <= self.most


@dataclass(frozen=True, slots=True)
class OwnTenant:
    """The payload's tenant, where it names one, is the tenant it came for."""

    name: str = "tenant_id"

    @property
    def checks(self) -> tuple[str, ...]:
        """See ``Rule``."""
        return (self.name,)

    def faults(self, received: Received) -> Iterator[str]:
        """See ``Rule``."""
        named = received.payload.get(self.name)
        if named is not None and str(named) != received.tenant_id:
            yield f"{self.name} names another tenant than the one it was sent to"


@dataclass(frozen=True, slots=True)
class Signed:
    """The header holds the HMAC-SHA256 of the raw body in hexadecimal, keyed with the tenant's secret."""

    header: str = "x-signature"
    prefix: str = ""

    @property
    def checks(self) -> tuple[str, ...]:
        """See ``Rule``."""
        return ("signature",)

    def faults(self, received: Received) -> Iterator[str]:
        """See ``Rule``."""
        given = received.headers.get(self.header, "")
        if not received.secret:
            yield "the tenant has no auth.secret to check signatures with"
            return
        wanted = self.prefix + hmac.new(received.secret.encode(), received.body, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(given.encode(), wanted.encode()):
            yield f"the signature in {self.header} does not fit the body"


@dataclass(frozen=True, slots=True)
class EachItem:
    """The field is a list that is not empty, and ``rules`` hold for each of its objects."""

    name: str
    rules: tuple[Rule, ...]
    reason: str = "invalid item"

    @property
    def checks(self) -> tuple[str, ...]:
        """See ``Rule``."""
        return (self.name, *(name for rule in self.rules for name in rule.checks))

    def faults(self, received: Received) -> Iterator[str]:
        """See ``Rule``."""
        items = received.payload.get(self.name)
        if not isinstance(items, list) or not items:
            yield f"{self.name} must be a list with at least one item"
            return
        for number, item in enumerate(items, start=1):
            if not isinstance(item, dict):
                yield f"{self.reason}: item {number} is no object"
                continue
            inner = Received(item, received.tenant_id)
            yield from (f"{self.reason}: item {number}: {fault}" for rule in self.rules for fault in rule.faults(inner))


WEBHOOK_RULES: Final[tuple[Rule, ...]] = (
    Required("id"),
    Required("event_type"),
    Required("tenant_id"),
    OwnTenant(),
    Number("total", least=0),
)
"""What every webhook that comes in must keep; a signature comes before it where the vendor signs."""


def faults_of(received: Received, rules: Sequence[Rule]) -> list[str]:
    """Every fault by every rule, in the rules' order. A signature that does not fit hides what else is wrong."""
    found: list[str] = []
    for rule in rules:
        found += rule.faults(received)
        if found and isinstance(rule, Signed):
            break
    return found


def checks_of(rules: Sequence[Rule]) -> list[str]:
    """Names of what the rules look at, each once, in the rules' order."""
    return list(dict.fromkeys(name for rule in rules for name in rule.checks))
