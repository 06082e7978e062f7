"""Triggers that belong to a session's own transaction."""

from sqlalchemy.orm import Session

from handlers.requests import DEDUPE_KEY
from handlers.service import Accepted
from schemas.events import WebhookRequested
from streams.capture.changes import capture_catalogue, write_rows
from streams.capture.outbox import request_row


class SessionSink:
    """Takes requests for webhooks into the outbox of a session's database, in its transaction.

    They are accepted when it commits, or never; no crash can come in between. Give it to ``PluginService``.
    """

    def __init__(self, session: Session, model: type[object] | None = None) -> None:
        """``model``: whose database it is, where the session has several."""
        self._session = session
        self._bind = {} if model is None else {"mapper": model}

    def accept(self, request: WebhookRequested) -> Accepted:
        """Write the request.

        Raises SQLAlchemy's ``DBAPIError``, and ``ValueError`` for what fits no schema or has a ``dedupe_key``.
        """
        if DEDUPE_KEY in request.options:
            raise ValueError(
                f"{DEDUPE_KEY} is kept in the system's database: trigger without the session's transaction"
            )
        connection = self._session.connection(bind_arguments=self._bind)
        write_rows(self._session, connection, [request_row(request, capture_catalogue().requests)])
        return Accepted(event_id=request.event_id)
