"""Event ids: time-ordered ones for requests, derived ones for model changes (R9)."""

import hashlib
import os
import time
from typing import Final
from uuid import UUID

from schemas.events import Micros

_MILLISECONDS: Final = (1 << 48) - 1
_VARIANT: Final = 0b10 << 62


def new_event_id() -> str:
    """A UUIDv7: 48 bits of the present time in milliseconds, then 74 random bits."""
    random = int.from_bytes(os.urandom(10), "big")
    return _uuid(time.time_ns() // 1_000_000, 7, random)


def derived_event_id(occurred_at: Micros, change_id: str, settings_entry: str) -> str:
    """The UUIDv8 of one settings entry's event about one change (R9).

    48 bits of the change's time in milliseconds, then 74 bits of a hash of both ids: the same change read again
    gives the same event, and each entry that matches it gives another one.
    """
    digest = hashlib.sha256()
    for text in (change_id, settings_entry):
        data = text.encode()
        # The length goes first, so that no two pairs of ids read as the same bytes.
        digest.update(len(data).to_bytes(4, "big"))
        digest.update(data)
    return _uuid(occurred_at // 1000, 8, int.from_bytes(digest.digest()[:10], "big"))


def _uuid(milliseconds: int, version: int, tail: int) -> str:
    """The UUID with this version, 48 bits of time in front and the low 74 bits of ``tail`` behind."""
    high = ((milliseconds & _MILLISECONDS) << 16) | (version << 12) | ((tail >> 62) & 0xFFF)
    low = _VARIANT | (tail & ((1 << 62) - 1))
    return str(UUID(int=(high << 64) | low))
