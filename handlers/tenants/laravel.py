"""Reads what Laravel's ``encrypt()`` wrote, to import tenants from the original product.

The format: base64 of a JSON object. With AES-CBC ``mac`` is the HMAC-SHA256 of the two base64 texts ``iv`` and
``value``, keyed with the application's key; with AES-GCM ``tag`` authenticates. The text may be serialized by PHP.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Sequence
from typing import Any, Final

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7

from handlers.tenants.encryption import DecryptionError, KeyringError

_SERIALIZED: Final = re.compile(rb's:(\d{1,9}):"(.*)";', re.DOTALL)


def parse_app_key(text: str) -> bytes:
    """The bytes of an ``APP_KEY``: ``base64:...``, or the bare characters. Raises ``KeyringError``, without the key."""
    text = text.strip()
    try:
        key = base64.b64decode(text[7:], validate=True) if text.startswith("base64:") else text.encode()
    except (binascii.Error, ValueError):
        raise KeyringError("the application key is not base64") from None
    if len(key) not in (16, 32):
        raise KeyringError(f"the application key has {len(key)} bytes; Laravel's have 16 or 32")
    return key


def decrypt_laravel(value: str, keys: Sequence[bytes]) -> str:
    """The text of an encrypted value, by the key that fits it. Raises ``DecryptionError``, without the value."""
    try:
        parts = orjson.loads(base64.b64decode(value, validate=True))
        iv, sealed, tag = (base64.b64decode(parts.get(name) or "", validate=True) for name in ("iv", "value", "tag"))
    except (ValueError, TypeError, AttributeError):
        raise DecryptionError("this is no value of Laravel's encrypt()") from None
    for key in keys:
        opened = _open_gcm(key, iv, sealed + tag) if tag else _open_cbc(key, iv, sealed, parts)
        if opened is not None:
            return _text(opened)
    raise DecryptionError("none of the application keys fits this value, or it is damaged")


def _open_cbc(key: bytes, iv: bytes, sealed: bytes, parts: dict[str, Any]) -> bytes | None:
    expected = hmac.new(key, f"{parts.get('iv')}{parts.get('value')}".encode(), hashlib.sha256).hexdigest()
    # Authenticated before anything is decrypted.
    if not hmac.compare_digest(expected.encode(), str(parts.get("mac")).encode()) or len(iv) != AES.block_size // 8:
        return None
    try:
        decryptor, unpadder = Cipher(AES(key), CBC(iv)).decryptor(), PKCS7(AES.block_size).unpadder()
        padded = decryptor.update(sealed) + decryptor.finalize()
        return unpadder.update(padded) + unpadder.finalize()
    except ValueError:
        return None


def _open_gcm(key: bytes, iv: bytes, sealed: bytes) -> bytes | None:
    try:
        return AESGCM(key).decrypt(iv, sealed, None)
    except (InvalidTag, ValueError):
        return None


def _text(opened: bytes) -> str:
    serialized = _SERIALIZED.fullmatch(opened)
    if serialized is not None and int(serialized[1]) == len(serialized[2]):
        opened = serialized[2]
    try:
        return opened.decode()
    except UnicodeDecodeError:
        raise DecryptionError("the decrypted value is no text") from None
