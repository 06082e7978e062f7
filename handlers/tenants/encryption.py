"""Encryption of tenants' configuration: an AES-256-GCM envelope.

Each value has a data key of its own, wrapped by a key of the keyring. Both layers authenticate the tenant and the
column they belong to, so that a value copied into another tenant's row does not decrypt. A value reads
``v1.<key id>.<wrapped data key>.<ciphertext>``, the last two in base64url, each with its nonce in front.
"""

import base64
import binascii
import os
import re
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_VERSION: Final = "v1"
_KEY_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,32}")


class KeyringError(ValueError):
    """Keys that cannot be used: malformed, missing, or readable by others."""


class DecryptionError(ValueError):
    """A value that does not decrypt: damaged, of another tenant or column, or of a key that is not here."""


class Keyring:
    """The keys by id. The first one encrypts, all of them decrypt."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        """``keys``: id -> 32 bytes, the active key first. Raises ``KeyringError``."""
        if not keys:
            raise KeyringError("there is no encryption key")
        for key_id, key in keys.items():
            if not _KEY_ID.fullmatch(key_id):
                raise KeyringError(f"key id {key_id!r} must be 1 to 32 letters, digits, - and _")
            if len(key) != _KEY_BYTES:
                raise KeyringError(f"key {key_id} has {len(key)} bytes; AES-256 needs {_KEY_BYTES}")
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}
        self.active = next(iter(keys))

    def __repr__(self) -> str:
        return f"Keyring(ids={list(self._ciphers)})"

    @classmethod
    def parse(cls, text: str) -> "Keyring":
        """Keys as settings hold them: ``id:base64`` pairs separated by blanks. Raises ``KeyringError``."""
        keys: dict[str, bytes] = {}
        for number, pair in enumerate(text.split(), start=1):
            key_id, separator, encoded = pair.partition(":")
            try:
                key = base64.b64decode(encoded, validate=True)
            except (binascii.Error, ValueError):
                separator = ""
            if not separator:
                # The pair itself is not shown: it holds the key.
                raise KeyringError(f"encryption key {number} is not id:base64")
            if key_id in keys:
                raise KeyringError(f"encryption key id {key_id} is given twice")
            keys[key_id] = key
        return cls(keys)

    @classmethod
    def read(cls, path: Path) -> "Keyring":
        """Keys of a file that only its owner may read. Raises ``KeyringError``."""
        try:
            mode = path.stat().st_mode
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise KeyringError(f"the encryption keys at {path} cannot be read: {error}") from None
        if stat.S_IMODE(mode) & 0o077:
            raise KeyringError(f"{path} can be read by others; run: chmod 600 {path}")
        return cls.parse(text)

    @classmethod
    def create(cls, path: Path) -> "Keyring":
        """Make a key and keep it in a new file of mode 0600. An existing file is read, never replaced.

        Raises ``KeyringError``.
        """
        text = f"k1:{base64.b64encode(os.urandom(_KEY_BYTES)).decode()}\n"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, draft = tempfile.mkstemp(dir=path.parent, prefix=".key-")  # mode 0600
        except OSError as error:
            raise KeyringError(f"no encryption key can be kept at {path}: {error}") from None
        try:
            with os.fdopen(handle, "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            # A link, not a rename: of two processes that start together one makes the key, and both read it.
            os.link(draft, path)
        except FileExistsError:
            pass
        except OSError as error:
            raise KeyringError(f"no encryption key can be kept at {path}: {error}") from None
        finally:
            os.unlink(draft)
        return cls.read(path)

    def encrypt(self, text: str, tenant_id: str, column: str) -> str:
        """The value to store in ``column`` of the tenant's row."""
        binding = _binding(tenant_id, column)
        data_key = AESGCM.generate_key(bit_length=_KEY_BYTES * 8)
        wrapped = _seal(self._ciphers[self.active], data_key, _key_binding(self.active, binding))
        sealed = _seal(AESGCM(data_key), text.encode(), binding)
        return ".".join((_VERSION, self.active, wrapped, sealed))

    def decrypt(self, value: str, tenant_id: str, column: str) -> str:
        """The text of a stored value. Raises ``DecryptionError``, which never carries the value."""
        parts = value.split(".")
        if len(parts) != 4 or parts[0] != _VERSION:
            raise DecryptionError(f"{column} of tenant {tenant_id} is not an encrypted value of version {_VERSION}")
        _, key_id, wrapped, sealed = parts
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            known = ", ".join(self._ciphers)
            raise DecryptionError(
                f"{column} of tenant {tenant_id} is encrypted with key {key_id[:32]!r}; here are: {known}. "
                "Add that key behind the active one"
            )
        binding = _binding(tenant_id, column)
        try:
            data_key = _open(cipher, wrapped, _key_binding(key_id, binding))
            return _open(AESGCM(data_key), sealed, binding).decode()
        except (InvalidTag, ValueError):
            raise DecryptionError(
                f"{column} of tenant {tenant_id} does not decrypt: it is damaged, or was copied from another row"
            ) from None


def _binding(tenant_id: str, column: str) -> bytes:
    # The length goes first, so that no other pair of tenant and column reads the same.
    return f"{_VERSION}|{len(tenant_id)}|{tenant_id}|{column}".encode()


def _key_binding(key_id: str, binding: bytes) -> bytes:
    return b"key|" + key_id.encode() + b"|" + binding


def _seal(cipher: AESGCM, data: bytes, binding: bytes) -> str:
    nonce = os.urandom(_NONCE_BYTES)
    return base64.urlsafe_b64encode(nonce + cipher.encrypt(nonce, data, binding)).decode()


def _open(cipher: AESGCM, text: str, binding: bytes) -> bytes:
    data = base64.b64decode(text, altchars=b"-_", validate=True)
    return cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], binding)
