"""Partition keys: everything about one row of one tenant has one key, so it keeps its order."""


def _part(text: str) -> str:
    """Percent-encode what would be read as a separator, and the percent sign itself."""
    return text.replace("%", "%25").replace("|", "%7C").replace(",", "%2C")


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
