"""What many records have in common, decoded once: names, and the part of instants that changes slowly.

Only how fast a record is read depends on what is remembered, never what is read. All of it is bounded, and forgotten
where it outgrows its bound.
"""

from typing import Final

_MOST_TEXTS: Final = 8192
_LONGEST_TEXT: Final = 64  # bytes
_MOST_INSTANTS: Final = 16_384
_LOW_BITS: Final = 13


class Texts(dict[bytes, str]):
    """Texts by their bytes. Asking for one that is no UTF-8 raises ``UnicodeDecodeError``, a ``ValueError``."""

    def __missing__(self, encoded: bytes) -> str:
        text = encoded.decode()
        if len(encoded) <= _LONGEST_TEXT:
            if len(self) >= _MOST_TEXTS:
                self.clear()
            self[encoded] = text
        return text


# An instant of this century takes eight bytes: two that differ from record to record, and six that are the same for
# 8 ms. It is the sum of what the two tables have for them.
LOW_INSTANTS: Final = {bytes([n << 1 & 0x7F | 0x80, n >> 6 | 0x80]): n for n in range(1 << _LOW_BITS)}
"""By the first two bytes, neither of which is the last one."""

HIGH_INSTANTS: Final[dict[bytes, int]] = {}
"""By the last six bytes, as far as they have been seen (``remember_instant``)."""


def remember_instant(encoded: bytes, zigzag: int) -> None:
    """Note a number that was read from these bytes, if it is of an instant's form."""
    if len(encoded) != 8 or zigzag & 1:
        return
    if len(HIGH_INSTANTS) >= _MOST_INSTANTS:
        HIGH_INSTANTS.clear()
    HIGH_INSTANTS[encoded[2:]] = zigzag >> _LOW_BITS + 1 << _LOW_BITS
