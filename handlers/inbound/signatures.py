"""Signatures of inbound webhooks, over the raw bytes and before anything is parsed.

Every scheme only says what was signed, when, and which signatures came with it; the comparing is done in one place.
A malformed header leads to the same work as a wrong signature, and never to an exception: its sender learns nothing.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from handlers.inbound.schemes import PUBLIC_KEY, HmacLayout, Scheme, key_of

MOST_SIGNATURES: Final = 10
"""Signatures of one request that are looked at; a request with more is refused."""
KEY_SLOTS: Final = 2
"""Secrets that count at the same time: the current one, and during a rotation the former."""

_TIMESTAMP: Final = re.compile(r"[0-9]{1,12}")
_HEX: Final = re.compile(r"[0-9a-f]{64}")
_MESSAGE_ID: Final = re.compile(r"[!-\-/-~]{1,255}")  # visible ASCII without the dot, which separates what is signed
_ED25519_BYTES: Final = 64
_NO_KEY: Final = bytes(32)


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request as it came. ``headers``: names in lower case, only those that came once. ``now_s``: Unix seconds."""

    headers: Mapping[str, str]
    body: bytes
    now_s: int


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request says of itself: the bytes that are signed, the signatures, and when (``None``: it never says).

    ``public_signatures`` are those to be checked with a public key.
    """

    content: bytes
    signatures: Sequence[bytes]
    timestamp: str | None = None
    public_signatures: Sequence[bytes] = ()


def verify(
    scheme: Scheme, secrets: Sequence[str], request: SignedRequest, tolerance_s: int, layout: HmacLayout
) -> str | None:
    """``None`` where the request is signed with one of the secrets and not stale; else why not, for our log only.

    At most ``KEY_SLOTS`` secrets count. ``tolerance_s`` bounds the timestamp in both directions, ``layout`` is that of
    ``Scheme.HMAC``. Raises nothing for what the request holds.
    """
    if scheme is Scheme.TOKEN:
        return None
    claim = _CLAIMS[scheme](request, layout) or Claim(request.body, (), "")
    shared: list[bytes] = []
    public: list[bytes] = []
    for secret in secrets[:KEY_SLOTS]:
        of_kind = public if scheme is Scheme.STANDARD and secret.startswith(PUBLIC_KEY) else shared
        of_kind.append(key_of(scheme, secret))
    signed = _signed_by_shared_key(shared, claim) | _signed_by_public_key(public, claim)
    fresh = claim.timestamp is None or _is_fresh(claim.timestamp, request.now_s, tolerance_s)
    if not signed:
        return "no signature matches"
    return None if fresh else "the timestamp is too far away"


def content_digest(request: SignedRequest, layout: HmacLayout) -> str:
    """A name for what ``Scheme.HMAC`` signed: a copy of a request has the same one, whatever else its headers say."""
    claim = _hmac(request, layout) or Claim(request.body, ())
    return hashlib.sha256(claim.content).hexdigest()


def _signed_by_shared_key(keys: Sequence[bytes], claim: Claim) -> bool:
    # As many digests for one secret as for two, and no early end: time tells neither what matched nor how many count.
    found = False
    for slot in range(KEY_SLOTS):
        known = slot < len(keys)
        wanted = hmac.digest(keys[slot] if known else _NO_KEY, claim.content, "sha256")
        for signature in claim.signatures:
            found |= hmac.compare_digest(wanted, signature) and known
    return found


def _signed_by_public_key(keys: Sequence[bytes], claim: Claim) -> bool:
    found = False
    for key in keys:
        for signature in claim.public_signatures or (bytes(_ED25519_BYTES),):
            try:
                Ed25519PublicKey.from_public_bytes(key).verify(signature, claim.content)
            except (InvalidSignature, ValueError):
                continue
            found = True
    return found


def _is_fresh(timestamp: str, now_s: int, tolerance_s: int) -> bool:
    return _TIMESTAMP.fullmatch(timestamp) is not None and abs(now_s - int(timestamp)) <= tolerance_s


def _standard(request: SignedRequest, _layout: HmacLayout) -> Claim | None:
    message_id, timestamp = request.headers.get("webhook-id", ""), request.headers.get("webhook-timestamp", "")
    listed = [each.partition(",") for each in request.headers.get("webhook-signature", "").split(" ")]
    if not _MESSAGE_ID.fullmatch(message_id) or not _TIMESTAMP.fullmatch(timestamp) or len(listed) > MOST_SIGNATURES:
        return None
    shared = _decoded([text for name, _, text in listed if name == "v1"], _from_base64)
    public = _decoded([text for name, _, text in listed if name == "v1a"], _from_base64)
    return Claim(f"{message_id}.{timestamp}.".encode() + request.body, shared, timestamp, public)


def _github(request: SignedRequest, _layout: HmacLayout) -> Claim:
    return Claim(request.body, _prefixed(request.headers.get("x-hub-signature-256", ""), "sha256=", _from_hex))


def _shopify(request: SignedRequest, _layout: HmacLayout) -> Claim:
    return Claim(request.body, _decoded([request.headers.get("x-shopify-hmac-sha256", "")], _from_base64))


def _stripe(request: SignedRequest, _layout: HmacLayout) -> Claim | None:
    listed = [part.partition("=") for part in request.headers.get("stripe-signature", "").split(",")]
    times = [text for name, _, text in listed if name == "t"]
    texts = [text for name, _, text in listed if name == "v1"]
    if len(times) != 1 or not _TIMESTAMP.fullmatch(times[0]) or len(texts) > MOST_SIGNATURES:
        return None
    return Claim(f"{times[0]}.".encode() + request.body, _decoded(texts, _from_hex), times[0])


def _hmac(request: SignedRequest, layout: HmacLayout) -> Claim | None:
    timestamp = request.headers.get(layout.timestamp_header.lower(), "")
    delivery_id = request.headers.get(layout.id_header.lower(), "")
    if not _TIMESTAMP.fullmatch(timestamp) or (layout.signs_id and not _MESSAGE_ID.fullmatch(delivery_id)):
        return None
    decode = _from_hex if layout.encoding == "hex" else _from_base64
    signatures = _prefixed(request.headers.get(layout.signature_header.lower(), ""), layout.signature_prefix, decode)
    return Claim(layout.content(delivery_id, timestamp, request.body), signatures, timestamp)


_ClaimOf: TypeAlias = Callable[[SignedRequest, HmacLayout], Claim | None]
_CLAIMS: Final[Mapping[Scheme, _ClaimOf]] = {
    Scheme.STANDARD: _standard,
    Scheme.GITHUB: _github,
    Scheme.STRIPE: _stripe,
    Scheme.SHOPIFY: _shopify,
    Scheme.HMAC: _hmac,
}


def _prefixed(text: str, prefix: str, decode: Callable[[str], bytes | None]) -> list[bytes]:
    return _decoded([text.removeprefix(prefix)] if text.startswith(prefix) else [], decode)


def _decoded(texts: Sequence[str], decode: Callable[[str], bytes | None]) -> list[bytes]:
    return [data for text in texts if (data := decode(text)) is not None]


def _from_hex(text: str) -> bytes | None:
    return bytes.fromhex(text) if _HEX.fullmatch(text) else None


def _from_base64(text: str) -> bytes | None:
    """Only the one canonical text of some bytes: with others a changed signature would still be the same one."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if base64.b64encode(data).decode() == text else None
