"""Objects of a JSON list of any size, one at a time."""

from collections.abc import AsyncIterator
from typing import Any

import ijson

from schemas.errors import Retryable


async def objects_of(chunks: AsyncIterator[bytes]) -> AsyncIterator[dict[str, Any]]:
    """Each object of the list that ``chunks`` spell out; what is kept of it is one chunk and one object.

    Raises ``Retryable`` (code ``bad_answer``) where it is no JSON or ends too early.
    """
    found = ijson.sendable_list()
    parser = ijson.items_coro(found, "item", use_float=True)
    try:
        async for chunk in chunks:
            parser.send(chunk)
            for each in found:
                yield each
            del found[:]
        parser.close()
    except (ijson.JSONError, StopIteration) as error:
        raise Retryable(f"the upstream's list breaks off or is no JSON: {error}", code="bad_answer") from None
    for each in found:
        yield each
