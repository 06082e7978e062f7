"""The address the upstream calls about one order: it signs nothing, so the address itself cannot be guessed."""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

_TOKEN_LENGTH: Final = 32


def callback_url(config: Mapping[str, Any], tenant_id: str, reference: str) -> str | None:
    """``callback_url`` of the configuration with the order's reference and token; ``None`` where it has none."""
    base = config.get("callback_url")
    if not isinstance(base, str) or not base:
        return None
    query = urlencode({"reference": reference, "token": _token(config, tenant_id, reference)})
    return f"{base}{'&' if '?' in base else '?'}{query}"


def called_about(query: Mapping[str, Any], config: Mapping[str, Any], tenant_id: str) -> str | None:
    """The reference of the order that a call-back's query names; ``None`` where its token is not that order's."""
    reference, token = query.get("reference"), query.get("token")
    if not isinstance(reference, str) or not isinstance(token, str) or not reference:
        return None
    expected = _token(config, tenant_id, reference)
    return reference if hmac.compare_digest(token.encode(), expected.encode()) else None


def _token(config: Mapping[str, Any], tenant_id: str, reference: str) -> str:
    auth = config.get("auth") or {}
    # Without a secret of its own, changing the credentials ends the call-backs of orders under way.
    secret = next((str(auth[name]) for name in ("callback_secret", "api_key", "password") if auth.get(name)), "")
    message = f"call-back\0{tenant_id}\0{reference}".encode()
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()[:_TOKEN_LENGTH]
