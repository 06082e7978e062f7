"""Partition keys: everything about one row of one tenant has one key, so it keeps its order.

And the texts of several parts that gates and subjects of the control topic are.
"""

from functools import lru_cache


def _part(text: str) -> str:
    """Percent-encode what would be read as a separator, and the percent sign itself."""
    if text.isalnum():  # as nearly all are
        return text
    return text.replace("%", "%25").replace("|", "%7C").replace(",", "%2C")


def join_parts(*parts: str) -> str:
    """One text of several: joined by ``|``, separators inside a part percent-encoded."""
    return "|".join(part.replace("%", "%25").replace("|", "%7C") for part in parts)


def split_parts(text: str) -> list[str]:
    """The parts of which ``join_parts`` made a text."""
    return [part.replace("%7C", "|").replace("%25", "%") for part in text.split("|")]


def model_key_text(*parts: object) -> str:
    """Text of a primary key: its parts joined by commas, separators inside a part percent-encoded."""
    return ",".join(_part(str(part)) for part in parts)


def partition_key(tenant_id: str, model: str | None, model_id: str | None, event_id: str) -> bytes:
    """Key of a record: ``tenant|model|id``, or the event id where no model is concerned.

    ``model`` is the registered bare name. ``model_id`` is the text that ``model_key_text`` makes.
    """
    if not model or not model_id:
        return event_id.encode()
    return f"{_part(tenant_id)}|{_part(model)}|{model_id.replace('|', '%7C')}".encode()


def tenant_of_key(key: bytes) -> str | None:
    """Tenant of a ``partition_key``; ``None`` where the key is an event's id."""
    end = key.find(b"|")
    return _unescaped(key[:end]) if end >= 0 else None


@lru_cache(maxsize=4096)
def _unescaped(part: bytes) -> str:
    text = part.decode(errors="replace")
    return text.replace("%7C", "|").replace("%2C", ",").replace("%25", "%") if "%" in text else text
