"""Encrypted values as the original product writes them."""

import base64
import hashlib
import hmac
import json
import os

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

KEY, OTHER = b"k" * 32, b"o" * 32
KEY_TEXT, OTHER_TEXT = (f"base64:{base64.b64encode(key).decode()}" for key in (KEY, OTHER))


def serialized(text: str) -> str:
    """A text as PHP serializes it."""
    return f's:{len(text.encode())}:"{text}";'


def cbc(text: str, key: bytes = KEY) -> str:
    """What ``encrypt()`` gives with AES-CBC, the default."""
    data, iv = text.encode(), os.urandom(16)
    padding = 16 - len(data) % 16
    encryptor = Cipher(AES(key), CBC(iv)).encryptor()
    sealed = encryptor.update(data + bytes([padding]) * padding) + encryptor.finalize()
    first, second = base64.b64encode(iv).decode(), base64.b64encode(sealed).decode()
    mac = hmac.new(key, (first + second).encode(), hashlib.sha256).hexdigest()
    return base64.b64encode(json.dumps({"iv": first, "value": second, "mac": mac, "tag": ""}).encode()).decode()


def gcm(text: str) -> str:
    """The same with AES-GCM."""
    iv = os.urandom(12)
    sealed = AESGCM(KEY).encrypt(iv, text.encode(), None)
    parts = {"iv": iv, "value": sealed[:-16], "tag": sealed[-16:]}
    encoded = {name: base64.b64encode(part).decode() for name, part in parts.items()}
    return base64.b64encode(json.dumps({**encoded, "mac": ""}).encode()).decode()
