"""What a handler says of its work: it returns one of these, or raises an error of ``schemas.errors``."""

from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Completed:
    """The work is done. ``result`` is a JSON object, kept in the history and handed to the pipeline's next step."""

    result: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rejected:
    """The work will never succeed: the payload is wrong or the upstream refused it. ``reason`` is for people."""

    reason: str
    code: str = "rejected"


Result: TypeAlias = Completed | Rejected
