"""What a settings entry does about events that are alike."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeAlias

import orjson
from pydantic import BeforeValidator, Field, model_validator

from handlers.tenants.parts import Part

FieldPath = Annotated[str, Field(min_length=1, max_length=200)]
FieldPaths = Annotated[list[FieldPath], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]
"""Fields of a payload, each with dots to what lies deeper: ``customer.id``. One may be given without a list."""


SingletonMode: TypeAlias = Literal["skip", "replace", "queue"]


class Singleton(Part):
    """One event at a time of those that are alike: the next one waits for the end of the one before it.

    ``queue``: each in its turn. ``replace``: only the latest that waits, the others end for it; what has been started
    goes on to its end. ``skip``: none, what comes meanwhile ends for the one that is under way. ``key`` as in
    ``Coalesce``.
    """

    mode: SingletonMode
    key: FieldPaths = Field(default_factory=list, max_length=10)


SingletonSetting = Annotated[
    Singleton, BeforeValidator(lambda value: {"mode": value} if isinstance(value, str) else value)
]
"""A mode alone stands for one without a key."""


class Coalesce(Part):
    """Of events that are alike the last is carried out once none has come for ``quiet_s``, the others end for it.

    ``key``: fields of the payload in which they are alike; without it, those of one row of a model are. The last one
    waits no longer than ``max_wait_s`` from the first. Both in seconds.
    """

    key: FieldPaths = Field(default_factory=list, max_length=10)
    quiet_s: float = Field(gt=0, le=3600)
    max_wait_s: float = Field(gt=0, le=86400)

    @model_validator(mode="after")
    def _consistent(self) -> "Coalesce":
        if self.max_wait_s < self.quiet_s:
            raise ValueError("max_wait_s is shorter than quiet_s: nothing would ever be quiet for so long")
        return self


def values_text(paths: Sequence[str], payload: Mapping[str, Any]) -> str | None:
    """The values of some fields as one text; ``None`` where one is missing, null, or no single value."""
    values: list[Any] = []
    for path in paths:
        value: Any = payload
        for name in path.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if value is None or isinstance(value, dict | list):
            return None
        values.append(value)
    return orjson.dumps(values).decode()
