"""Functions that a session's transaction calls at its end: inside it, before the commit, or after it."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, Engine, event
from sqlalchemy.orm import Session, SessionTransaction
from typing_extensions import override

from handlers.tenants.current import current_tenant, tenant_context

AtEnd: TypeAlias = Callable[[Session], None]

_CALLS: Final = "webhook_calls"
_COMMITTED: Final = "webhook_committed"
_COMMITTING: Final = "webhook_committing"
_MOST_ROUNDS: Final = 100


class SavepointLeftOpen(RuntimeError):
    """A transaction is committed around a savepoint that nobody ended: what waits for its end cannot run."""

    def __init__(self) -> None:
        super().__init__(
            "a savepoint is still open while the transaction around it commits, and functions given to before_commit "
            "wait for its end; end the savepoint first, or call session.commit()"
        )


@dataclass(slots=True)
class _Calls:
    """What one transaction or savepoint has to call."""

    before: list[AtEnd] = field(default_factory=list)
    after: list[Callable[[], None]] = field(default_factory=list)


def before_commit(session: Session, function: AtEnd) -> None:
    """Call ``function(session)`` inside the transaction, once everything is flushed and before it commits.

    What it writes is committed with the rest, so a crash cannot lose it; what it raises rolls everything back. The
    same function, or method of the same object, is called once however often it is given. A savepoint that is rolled
    back takes what was given inside it along.
    """
    calls = _calls(session)
    if function not in calls.before:
        calls.before.append(function)


def after_commit(session: Session, function: AtEnd) -> None:
    """Call ``function(fresh)`` once the transaction has committed, with a fresh session that is committed after it.

    A process that dies in between never calls it: where that must not happen, take ``before_commit``. What it raises
    comes out of ``session.commit()`` although that has committed, after all other functions were called. The tenant is
    the one current now. A rollback, also one to a savepoint around this call, drops it.
    """
    _calls(session).after.append(partial(_call_afresh, function, session, current_tenant.get()))


def _calls(session: Session) -> _Calls:
    transaction = session.get_nested_transaction() or session.get_transaction() or session.begin()
    calls: dict[SessionTransaction, _Calls] = session.info.setdefault(_CALLS, {})
    return calls.setdefault(transaction, _Calls())


class _FreshSession(Session):
    """A session for the databases of another one."""

    def __init__(self, origin: Session) -> None:
        super().__init__()
        self._origin = origin

    @override
    def get_bind(self, *arguments: Any, **options: Any) -> Engine | Connection:
        return self._origin.get_bind(*arguments, **options)


def _call_afresh(function: AtEnd, origin: Session, tenant_id: str | None) -> None:
    with ExitStack() as stack:
        if tenant_id is not None:
            stack.enter_context(tenant_context(tenant_id))
        fresh = stack.enter_context(_FreshSession(origin))
        with fresh.begin():
            function(fresh)


@event.listens_for(Session, "before_commit")
def _call_before(session: Session) -> None:
    pending: dict[SessionTransaction, _Calls] = session.info.get(_CALLS, {})
    savepoint = session.get_nested_transaction()
    if savepoint is not None:
        # Told once when a savepoint ends, and twice when a transaction around one that is open does.
        if session.info.get(_COMMITTING) is savepoint and any(calls.before for calls in pending.values()):
            raise SavepointLeftOpen
        session.info[_COMMITTING] = savepoint
        return
    root = session.get_transaction()
    if root is None:
        return
    # The last flush comes after this event, and its changes may ask for calls too.
    session.flush()
    for _ in range(_MOST_ROUNDS):
        calls = session.info.get(_CALLS, {}).get(root)
        if calls is None or not calls.before:
            return
        functions, calls.before = calls.before, []
        for function in functions:
            function(session)
        session.flush()
    raise RuntimeError(f"functions given to before_commit ask for further ones without end: {functions}")


@event.listens_for(Session, "after_commit")
def _pass_on(session: Session) -> None:
    """What a savepoint has to call is its parent's now."""
    session.info.pop(_COMMITTING, None)
    pending: dict[SessionTransaction, _Calls] | None = session.info.get(_CALLS)
    ended = session.get_nested_transaction() or session.get_transaction()
    if not pending or ended not in pending:
        return
    calls = pending.pop(ended)
    parent = ended.parent
    if parent is None:
        session.info[_COMMITTED] = calls.after
        return
    outer = pending.setdefault(parent, _Calls())
    outer.before += [function for function in calls.before if function not in outer.before]
    outer.after += calls.after


@event.listens_for(Session, "after_transaction_end")
def _call_after(session: Session, transaction: SessionTransaction) -> None:
    session.info.pop(_COMMITTING, None)
    # What has not been passed on by its end was rolled back.
    session.info.get(_CALLS, {}).pop(transaction, None)
    if transaction.parent is None:
        with ExitStack() as stack:
            for function in reversed(session.info.pop(_COMMITTED, [])):
                stack.callback(function)
