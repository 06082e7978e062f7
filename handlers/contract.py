"""What a plugin gives and what its handlers get: authors import from here, ``results`` and ``schemas.errors``."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, runtime_checkable

from handlers.results import Result

PLUGIN_API_VERSION: Final = 1


class HttpClient(Protocol):
    """The one guarded way out: resolved, checked and capped (``handlers.outbound``)."""

    async def request(
        self, method: str, url: str, *, json: object = None, headers: Mapping[str, str] | None = None
    ) -> "HttpResponse":
        """Send a request and read its answer whole.

        Raises ``Retryable`` for faults of the network and for 429 and 5xx answers, ``Permanent`` for a refused address.
        """


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An answer, read whole. ``body`` is bounded by the client's cap, in bytes."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class Context:
    """What a handler knows beside its payload.

    ``config`` is the tenant's validated configuration (secrets in clear: never log it). ``idempotency_key`` is the
    same for every attempt of this step. ``results`` holds the JSON results of earlier steps of a pipeline, in order.
    """

    tenant_id: str
    event_id: str
    event_type: str
    endpoint: str
    run: int
    step: int
    attempt: int
    idempotency_key: str
    config: Mapping[str, Any]
    http: HttpClient
    log: logging.LoggerAdapter[logging.Logger]
    results: list[dict[str, Any]] = field(default_factory=list)

    @property
    def previous_step_result(self) -> dict[str, Any] | None:
        """Result of the step before this one; ``None`` in the first step."""
        return self.results[-1] if self.results else None


@runtime_checkable
class Handler(Protocol):
    """A handler run on its own. One instance serves every tenant, so it keeps no state between calls."""

    async def handle(self, payload: dict[str, Any], context: Context) -> Result:
        """Carry out the webhook. May be called again after a fault, with the same idempotency key."""


@runtime_checkable
class StepHandler(Protocol):
    """A handler that can be a step of a pipeline."""

    async def handle_step(self, data: dict[str, Any], step: int, context: Context) -> Result:
        """Carry out one step.

        ``data`` is the payload, with ``previous_step_result``, ``pipeline_results`` and ``current_step`` beside it.
        """
