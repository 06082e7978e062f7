"""What a vendor's answer means: done, refused for good, to be tried again, or unknown."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import orjson

from handlers.contract import HttpResponse
from schemas.errors import Permanent, Retryable, Unknown

_WITHOUT_EFFECT: Final = frozenset({"http_429", "not_connected", "not_sent"})
_TOO_MUCH_SAID: Final = frozenset({"answer_too_large"})


class UpstreamRefused(Permanent):
    """The upstream refused the request itself: sending it again changes nothing."""

    code = "upstream_refused"


def checked(response: HttpResponse, credentials: str) -> HttpResponse:
    """The response, if it is a success. ``credentials`` names the settings that hold them.

    Raises ``Permanent`` for refused credentials, ``Retryable`` for 408, ``UpstreamRefused`` for all else.
    """
    if response.status in (401, 403):
        raise Permanent(
            f"the upstream refused the credentials ({response.status}); check {credentials} in the tenant's "
            "configuration, then retry the event",
            code="credentials_refused",
        )
    if response.status == 408:
        raise Retryable("the upstream gave up waiting for the request (408); it is tried again", code="http_408")
    if not 200 <= response.status < 300:
        raise UpstreamRefused(
            f"the upstream answered {response.status}: {_message(response)}; mend what it names, then trigger anew"
        )
    return response


def any_of(response: HttpResponse) -> Any:
    """The JSON of an answer. Raises ``Retryable`` (code ``bad_answer``) where it is none."""
    try:
        return orjson.loads(response.body)
    except orjson.JSONDecodeError as error:
        raise Retryable(f"the upstream's answer is no JSON: {error}; it is asked again", code="bad_answer") from None


def object_of(response: HttpResponse) -> dict[str, Any]:
    """The JSON object of an answer; raises as ``any_of``."""
    answer = any_of(response)
    if not isinstance(answer, dict):
        raise Retryable("the upstream's answer is no JSON object; it is asked again", code="bad_answer")
    return answer


def list_of(answer: object, *names: str) -> list[dict[str, Any]]:
    """The objects of a list, which stands alone or under one of ``names``. Raises ``Retryable`` where there is none."""
    found = next((answer[name] for name in names if name in answer), None) if isinstance(answer, dict) else answer
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise Retryable("the upstream's answer is no list of objects; it is asked again", code="bad_answer")
    return found


@contextmanager
def placing(reference: str) -> Iterator[None]:
    """Around the one call that places an order: what leaves open whether it did is raised as ``Unknown``.

    Only an upstream that was not reached, or that had no room (429), has certainly done nothing.
    """
    try:
        yield
    except (Retryable, Permanent) as error:
        is_open = error.code not in _WITHOUT_EFFECT if isinstance(error, Retryable) else error.code in _TOO_MUCH_SAID
        if not is_open:
            raise
        raise Unknown(
            f"{error}. Whether the order was placed is not known: it is looked for at the upstream under the reference "
            f"{reference} before it is sent again; do not place it by hand before you have looked there too",
            code="order_unknown",
        ) from error


def _message(response: HttpResponse) -> str:
    """What the upstream says, shortened: its errors come as text, list or object."""
    try:
        said = orjson.loads(response.body)
    except orjson.JSONDecodeError:
        return response.body[:200].decode(errors="replace") or "no explanation"
    if isinstance(said, dict):
        said = next((said[name] for name in ("message", "errorMessage", "error") if said.get(name)), said)
    return str(said)[:500]
