"""A pytest plugin for the tests of services whose models and triggers fire webhooks: the fixture ``captured_webhooks``.

It needs no Kafka, no database of ours and no outbox table: what would be written to the outbox is kept in memory, and
counts once its transaction has committed, as it would be published.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

    from handlers.service import Accepted
    from schemas.events import ModelChanged, WebhookRequested
    from streams.capture.outbox import OutboxRow

# Everything else is imported by the fixture: this module is loaded in every test run where the package is installed.


class CapturedWebhooks:
    """What a test has fired, in order of the commits.

    ``changes`` are those of tracked models, ``requests`` the triggers. Give it to ``PluginService`` as its sink to
    capture triggers outside any session; a ``SessionSink`` is captured as it is.
    """

    def __init__(self) -> None:
        self.changes: list[ModelChanged] = []
        self.requests: list[WebhookRequested] = []

    def of(self, model: str, model_event: str | None = None) -> list["ModelChanged"]:
        """Changes of one model, by its registered name; ``model_event``: only these."""
        return [each for each in self.changes if each.model == model and model_event in (None, each.model_event)]

    def to(self, endpoint: str) -> list["WebhookRequested"]:
        """Triggers of one endpoint."""
        return [each for each in self.requests if each.endpoint == endpoint]

    def clear(self) -> None:
        """Forget what was fired so far."""
        self.changes.clear()
        self.requests.clear()

    def accept(self, request: "WebhookRequested") -> "Accepted":
        """See ``EventSink``."""
        from handlers.service import Accepted
        from schemas.codec import decode_as, encode
        from schemas.events import WebhookRequested

        # What does not fit the schema is refused here as it would be in earnest.
        self.requests.append(decode_as(WebhookRequested, encode(request)))
        return Accepted(event_id=request.event_id)

    def write(self, session: "Session", _connection: "Connection", rows: Sequence["OutboxRow"]) -> None:
        """Keep a transaction's rows until it commits."""
        from streams.capture.transaction import after_commit

        after_commit(session, lambda _fresh: self._keep(rows))

    def _keep(self, rows: Sequence["OutboxRow"]) -> None:
        from schemas.codec import decode
        from schemas.events import ModelChanged

        for row in rows:
            event: Any = decode(row.payload)
            (self.changes if isinstance(event, ModelChanged) else self.requests).append(event)


@pytest.fixture
def captured_webhooks() -> Iterator[CapturedWebhooks]:
    """What the test's sessions fire, instead of the outbox: ``changes``, ``requests``, ``of``, ``to``, ``clear``."""
    from streams.capture.changes import written_by

    captured = CapturedWebhooks()
    with written_by(captured.write):
        yield captured
