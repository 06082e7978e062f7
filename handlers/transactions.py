"""Whether the caller is inside a transaction that has written a model: whoever waits there keeps its locks."""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Final

_open: Final[ContextVar[tuple[Callable[[], bool], ...]]] = ContextVar("model_transactions", default=())


def entered_model_transaction(is_open: Callable[[], bool]) -> None:
    """A model was written in a transaction of this task or thread; ``is_open`` says whether that has ended since."""
    _open.set((*(each for each in _open.get() if each()), is_open))


def inside_model_transaction() -> bool:
    """Whether a transaction that this task or thread wrote a model in has not ended."""
    return any(each() for each in _open.get())
