"""Tells ``handlers.transactions`` of the transactions that write models."""

from typing import Final
from weakref import ref

from sqlalchemy.orm import Session, SessionTransaction

from handlers.transactions import entered_model_transaction

_WRITING: Final = "webhook_writing"


def note_writing(session: Session) -> None:
    """A flush of this session has written a model."""
    root = session.get_transaction()
    if root is None:
        return
    noted: ref[SessionTransaction] | None = session.info.get(_WRITING)
    if noted is not None and noted() is root:
        return
    session.info[_WRITING] = written = ref(root)
    writer = ref(session)

    def is_open() -> bool:
        # A session ends its transaction before it tells anybody: what is called after a commit is outside.
        of, now = writer(), written()
        return of is not None and now is not None and of.get_transaction() is now

    entered_model_transaction(is_open)
