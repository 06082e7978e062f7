"""Takes a tenant's secrets out of what leaves a handler: results, errors and log lines.

A secret is found as it stands and as JSON, Python, URLs and HTTP's basic authentication write it. One shorter than
four characters is not looked for: it would tear other words apart.
"""

import base64
import json
import re
from collections.abc import Awaitable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, Final, TypeVar
from urllib.parse import quote, quote_plus

import orjson

from handlers.results import Completed, Rejected, Wait
from handlers.tenants.secrets import secret_values
from schemas.errors import Permanent, PipelineError, Retryable, Unknown

T = TypeVar("T")

REDACTED: Final = "[redacted]"
SHORTEST: Final = 4
"""Characters a secret must have to be looked for."""

_WORDLIKE_BELOW: Final = 8
_DEPTH: Final = 64


class Redactor:
    """Replaces known secrets in text. ``repr`` does not show them."""

    __slots__ = ("_forms",)

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms = {form for secret in secrets for form in _forms(secret)}
        # The longest first: of two secrets of which one contains the other, none of the longer may stay.
        self._forms = tuple(sorted(forms, key=lambda form: (-len(form), form)))

    def text(self, text: str) -> str:
        """``text`` without secrets."""
        # One redactor is kept for every tenant and most texts hold nothing: a pattern is made only when one does.
        found = [form for form in self._forms if form in text]
        return re.sub("|".join(map(_pattern, found)), REDACTED, text) if found else text

    def value(self, value: Any, depth: int = _DEPTH) -> Any:
        """A JSON value without secrets in its texts, numbers and keys; the same object where there are none to find."""
        if not self._forms or value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, int | float):
            return REDACTED if str(value) in self._forms else value
        if isinstance(value, Mapping) and depth:
            return {self.value(key, 0): self.value(each, depth - 1) for key, each in value.items()}
        if isinstance(value, list | tuple) and depth:
            return [self.value(each, depth - 1) for each in value]
        return self.text(str(value))

    def verdict(self, verdict: object) -> object:
        """What an attempt came to (a result or an exception) without secrets; the same object where it holds none."""
        if not self._forms:
            return verdict
        match verdict:
            case Completed(result):
                return Completed(self.value(result)) if self._holds(result) else verdict
            case Rejected(reason, code):
                return Rejected(self.text(str(reason)), self.text(str(code)))
            case Wait(key) if self.text(str(key)) != str(key):
                return Permanent("the key of the call-back holds a secret; make it of something else", code="bad_wait")
            case BaseException():
                return self._error(verdict)
            case _:
                return verdict

    def _holds(self, result: object) -> bool:
        try:
            encoded = orjson.dumps(result).decode()
        except orjson.JSONEncodeError:
            return True
        return any(form in encoded for form in self._forms)

    def _error(self, error: BaseException) -> BaseException:
        text, code = str(error), error.code if isinstance(error, PipelineError) else ""
        if self.text(text) == text and self.text(code) == code:
            return error
        text, code = self.text(text), self.text(code)
        # A new one, without cause and traceback: they hold the text as well.
        match error:
            case Permanent():
                return Permanent(text, code=code)
            case Unknown():
                return Unknown(text, code=code)
            case Retryable():
                return Retryable(text, code=code, retry_after_s=error.retry_after_s)
            case _:
                return Retryable(f"{type(error).__name__}: {text}", code="handler_error")


NOTHING_SECRET: Final = Redactor()

current_redactor: Final[ContextVar[Redactor]] = ContextVar("current_redactor", default=NOTHING_SECRET)
"""The redactor of the tenant whose handler runs: every log line written there goes through it."""


async def redacted(work: Awaitable[T], document: object, schema: Mapping[str, Any]) -> T:
    """What ``work`` gives, for a caller outside; its errors come without the secrets of a tenant's configuration."""
    try:
        return await work
    except PipelineError as error:
        clean = Redactor(secret_values(document, schema)).verdict(error)
        if isinstance(clean, BaseException) and clean is not error:
            raise clean from None
        raise


def _forms(secret: str) -> Iterator[str]:
    """What a secret may look like."""
    if len(secret) < SHORTEST:
        return
    encoded = secret.encode(errors="surrogatepass")
    yield from (secret, repr(secret)[1:-1], quote_plus(encoded, safe=""))
    yield from (quote(encoded, safe=safe) for safe in ("", "/", "/+=:@"))
    yield from (json.dumps(secret, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False))
    if len(secret) >= _WORDLIKE_BELOW:
        # Base64 writes it in three ways, by how many bytes of the text before it are left over from groups of three.
        for before, skipped in enumerate((0, 2, 3)):
            whole = base64.b64encode(b"\0" * before + encoded).decode()
            yield whole[skipped : (before + len(encoded)) * 8 // 6]


def _pattern(form: str) -> str:
    # A short secret may be a part of common words, and stands for itself only as a word of its own.
    return re.escape(form) if len(form) >= _WORDLIKE_BELOW else rf"(?<!\w){re.escape(form)}(?!\w)"
