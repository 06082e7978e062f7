"""What every part of a tenant's configuration has in common."""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict

from handlers.tenants.secrets import masked_entry


class Part(BaseModel):
    """Base of every part of the document: unknown keys stay, secrets do not show."""

    model_config = ConfigDict(extra="allow", frozen=True, populate_by_name=True)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, value if isinstance(value, Part) else masked_entry(name or "", value)

    def unknown_keys(self) -> Iterator[str]:
        """Paths of the keys nobody here knows, relative to this part."""
        yield from self.model_extra or ()
        for name, field in type(self).model_fields.items():
            value, shown = getattr(self, name), field.alias or name
            if isinstance(value, Part):
                yield from (f"{shown}.{key}" for key in value.unknown_keys())
            elif isinstance(value, list):
                for index, item in enumerate(value):
                    if isinstance(item, Part):
                        yield from (f"{shown}[{index}].{key}" for key in item.unknown_keys())
