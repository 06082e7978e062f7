"""The schemes by which providers sign, and their secrets: what a good one looks like, and which key it stands for."""

import base64
import binascii
import secrets
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

SHARED_KEY: Final = "whsec_"
PUBLIC_KEY: Final = "whpk_"
LEAST_SECRET: Final = 16
LONGEST_SECRET: Final = 512
_GENERATED_BYTES: Final = 32
_STANDARD_BYTES: Final = range(24, 65)
_PUBLIC_BYTES: Final = 32


class Scheme(StrEnum):
    """How a provider signs what it sends."""

    STANDARD = "standard"
    GITHUB = "github"
    STRIPE = "stripe"
    SHOPIFY = "shopify"
    HMAC = "hmac"
    TOKEN = "token"  # noqa: S105 (a scheme's name): nothing is signed, the address is the secret

    @property
    def takes_secret(self) -> bool:
        """Whether sources of this scheme have a secret."""
        return self is not Scheme.TOKEN

    @property
    def secret_is_theirs(self) -> bool:
        """Whether the provider makes the secret and we are told it."""
        return self in (Scheme.STRIPE, Scheme.SHOPIFY)


@dataclass(frozen=True, slots=True)
class HmacLayout:
    """How ``Scheme.HMAC`` lays things out; also names the id's header of ``Scheme.TOKEN``.

    ``signed`` is what the HMAC-SHA256 is over: text with ``{timestamp}``, ``{body}`` and, where the id is signed too,
    ``{id}``, once each. ``signature_prefix`` stands before the signature, as ``sha256=`` or ``v0=``.
    """

    signature_header: str = "X-Signature"
    timestamp_header: str = "X-Timestamp"
    id_header: str = "X-Delivery-Id"
    signed: str = "{timestamp}.{body}"
    encoding: Literal["hex", "base64"] = "hex"
    signature_prefix: str = ""

    def __post_init__(self) -> None:
        """Raise ``ValueError`` for a layout that would prove nothing."""
        for name in ("{timestamp}", "{body}"):
            if self.signed.count(name) != 1:
                raise ValueError(f"what is signed must hold {name} once, as in {{timestamp}}.{{body}}")
        if self.signed.count("{id}") > 1:
            raise ValueError("what is signed may hold {id} once")
        if self.encoding not in ("hex", "base64"):
            raise ValueError("the encoding must be hex or base64")
        for header in (self.signature_header, self.timestamp_header, self.id_header):
            if not header.replace("-", "").isalnum() or not header.isascii():
                raise ValueError(f"{header!r:.80} is no name of a header")

    @property
    def signs_id(self) -> bool:
        """Whether the delivery's id is signed."""
        return "{id}" in self.signed

    def content(self, delivery_id: str, timestamp: str, body: bytes) -> bytes:
        """The bytes that are signed."""
        before, _, after = self.signed.partition("{body}")
        pieces = (each.replace("{timestamp}", timestamp).replace("{id}", delivery_id) for each in (before, after))
        return body.join(piece.encode() for piece in pieces)


def key_of(scheme: Scheme, secret: str) -> bytes:
    """The key that a secret stands for: an HMAC key, or with ``whpk_`` an ed25519 public key.

    Raises ``ValueError``, which never shows the secret, for one that is empty, too short or malformed.
    """
    if scheme is Scheme.STANDARD:
        return _standard_key(secret)
    if not LEAST_SECRET <= len(secret) <= LONGEST_SECRET:
        raise ValueError(f"a secret has {LEAST_SECRET} to {LONGEST_SECRET} characters, not {len(secret)}")
    return secret.encode()


def generated_secret(scheme: Scheme) -> str:
    """A new secret of a scheme whose secrets are ours to make."""
    if scheme is Scheme.STANDARD:
        return SHARED_KEY + base64.b64encode(secrets.token_bytes(_GENERATED_BYTES)).decode()
    return secrets.token_urlsafe(_GENERATED_BYTES)


def _standard_key(secret: str) -> bytes:
    public = secret.startswith(PUBLIC_KEY)
    try:
        key = base64.b64decode(secret.removeprefix(PUBLIC_KEY).removeprefix(SHARED_KEY), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"the secret is not {SHARED_KEY} or {PUBLIC_KEY} and base64") from None
    if public and len(key) != _PUBLIC_BYTES:
        raise ValueError(f"a public key has {_PUBLIC_BYTES} bytes in base64, not {len(key)}")
    if not public and len(key) not in _STANDARD_BYTES:
        low, high = _STANDARD_BYTES[0], _STANDARD_BYTES[-1]
        raise ValueError(f"a secret of Standard Webhooks has {low} to {high} bytes in base64, not {len(key)}")
    return key
