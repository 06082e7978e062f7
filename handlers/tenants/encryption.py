"""Encryption of tenants' configuration: an AES-256-GCM envelope.

Each value has a data key of its own, wrapped by a key of the keyring. Both layers authenticate the tenant and the
column they belong to, so that a value copied into another tenant's row does not decrypt. A value reads
``v1.<key id>.<wrapped data key>.<ciphertext>``, the last two in base64url, each with its nonce in front.
"""

import base64
import binascii
import logging
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_log = logging.getLogger(__name__)

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_VERSION: Final = "v1"
_DAMAGED: Final = "does not decrypt: it is damaged, or was copied from another row"
KEY_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,32}")


class KeyringError(ValueError):
    """Keys that cannot be used: malformed, missing, or readable by others."""


class DecryptionError(ValueError):
    """A value that does not decrypt: damaged, of another tenant or column, or of a key that is not here."""


class Keyring:
    """The keys by id. The first one encrypts, all of them decrypt.

    A keyring made from a file follows it: a key added there, or made the active one, counts without a restart.
    """

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        """``keys``: id -> 32 bytes, the active key first. Raises ``KeyringError``."""
        self._ciphers = _ciphers(keys)
        self._path: Path | None = None
        self._seen: object = None

    def __repr__(self) -> str:
        return f"Keyring(ids={list(self._ciphers)})"

    @classmethod
    def parse(cls, text: str) -> "Keyring":
        """Keys as settings hold them: ``id:base64`` pairs separated by blanks. Raises ``KeyringError``."""
        return cls(parse_keys(text))

    @classmethod
    def read(cls, path: Path) -> "Keyring":
        """Keys of a file that only its owner may read. Raises ``KeyringError``."""
        seen = _state(path)
        ring = cls(read_keys(path))
        ring._path, ring._seen = path, seen
        return ring

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the keys, the active one first."""
        self._follow()
        return tuple(self._ciphers)

    @property
    def active(self) -> str:
        """Id of the key that encrypts."""
        return self.ids[0]

    def encrypt(self, text: str, tenant_id: str, column: str) -> str:
        """The value to store in ``column`` of the tenant's row."""
        binding = _binding(tenant_id, column)
        data_key = AESGCM.generate_key(bit_length=KEY_BYTES * 8)
        sealed = _seal(AESGCM(data_key), text.encode(), binding)
        return ".".join((*self._wrap(data_key, binding), sealed))

    def decrypt(self, value: str, tenant_id: str, column: str) -> str:
        """The text of a stored value. Raises ``DecryptionError``, which never carries the value."""
        binding = _binding(tenant_id, column)
        try:
            data_key, sealed = self._unwrap(value, binding)
            return _open(AESGCM(data_key), sealed, binding).decode()
        except DecryptionError as error:
            raise DecryptionError(f"{column} of tenant {tenant_id} {error}") from None
        except (InvalidTag, ValueError):
            raise DecryptionError(f"{column} of tenant {tenant_id} {_DAMAGED}") from None

    def rewrap(self, value: str, tenant_id: str, column: str) -> str:
        """The same value under the active key: its data key is wrapped anew, what it encrypts is not touched.

        Raises ``DecryptionError``.
        """
        binding = _binding(tenant_id, column)
        try:
            data_key, sealed = self._unwrap(value, binding)
        except DecryptionError as error:
            raise DecryptionError(f"{column} of tenant {tenant_id} {error}") from None
        return ".".join((*self._wrap(data_key, binding), sealed))

    def _wrap(self, data_key: bytes, binding: bytes) -> tuple[str, str, str]:
        self._follow()
        key_id, cipher = next(iter(self._ciphers.items()))
        return _VERSION, key_id, _seal(cipher, data_key, _key_binding(key_id, binding))

    def _unwrap(self, value: str, binding: bytes) -> tuple[bytes, str]:
        """The data key of a value, and its ciphertext."""
        parts = value.split(".")
        if len(parts) != 4 or parts[0] != _VERSION:
            raise DecryptionError(f"is not an encrypted value of version {_VERSION}")
        _, key_id, wrapped, sealed = parts
        if key_id not in self._ciphers:
            self._follow()
        ciphers = self._ciphers
        if key_id not in ciphers:
            known = ", ".join(ciphers)
            raise DecryptionError(
                f"is encrypted with key {key_id[:32]!r}; here are: {known}. Add that key behind the active one"
            )
        try:
            return _open(ciphers[key_id], wrapped, _key_binding(key_id, binding)), sealed
        except (InvalidTag, ValueError):
            raise DecryptionError(_DAMAGED) from None

    def _follow(self) -> None:
        """Take over what has changed in the file. One that cannot be read now changes nothing: work goes on."""
        seen = None if self._path is None else _state(self._path)
        if self._path is None or seen is None or seen == self._seen:
            return
        try:
            self._ciphers = _ciphers(read_keys(self._path))
        except KeyringError as error:
            _log.warning("the encryption keys have changed and cannot be used; the former ones are kept: %s", error)
        self._seen = seen


def value_prefix(key_id: str) -> str:
    """What every value encrypted with that key begins with."""
    return f"{_VERSION}.{key_id}."


def parse_keys(text: str) -> dict[str, bytes]:
    """Keys by id, in the order of the text. Raises ``KeyringError``."""
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
    return keys


def read_keys(path: Path) -> dict[str, bytes]:
    """Keys of a file that only its owner may read. Raises ``KeyringError``."""
    try:
        mode = path.stat().st_mode
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise KeyringError(f"the encryption keys at {path} cannot be read: {error}") from None
    if stat.S_IMODE(mode) & 0o077:
        raise KeyringError(f"{path} can be read by others; run: chmod 600 {path}")
    return parse_keys(text)


def _ciphers(keys: Mapping[str, bytes]) -> dict[str, AESGCM]:
    if not keys:
        raise KeyringError("there is no encryption key")
    for key_id, key in keys.items():
        if not KEY_ID.fullmatch(key_id):
            raise KeyringError(f"key id {key_id!r} must be 1 to 32 letters, digits, - and _")
        if len(key) != KEY_BYTES:
            raise KeyringError(f"key {key_id} has {len(key)} bytes; AES-256 needs {KEY_BYTES}")
    return {key_id: AESGCM(key) for key_id, key in keys.items()}


def _state(path: Path) -> tuple[int, int, int] | None:
    """What changes whenever the file does; ``None`` where it cannot be looked at."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_ino, state.st_mtime_ns, state.st_ctime_ns


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
