"""The file that holds the encryption keys: made, added to and put in order, never half written."""

import base64
import fcntl
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from handlers.tenants.encryption import KEY_BYTES, KEY_ID, Keyring, KeyringError, read_keys


def open_key_file(path: Path) -> Keyring:
    """The keyring of a file, which is made with one key (mode 0600) where it is missing. Raises ``KeyringError``."""
    if not path.exists():
        with _writing(path):
            # Of two processes that start together one makes the key, and both read it.
            if not path.exists():
                _write(path, {"k1": os.urandom(KEY_BYTES)})
    return Keyring.read(path)


def add_key(path: Path, key_id: str | None = None) -> str:
    """Make a key and put it behind the others: it decrypts, and encrypts once it is activated. Its id is returned.

    Raises ``KeyringError`` for an id that is taken or malformed, and for a file that cannot be used.
    """
    with _writing(path):
        keys = read_keys(path)
        name = key_id or next(each for number in count(1) if (each := f"k{number}") not in keys)
        if name in keys:
            raise KeyringError(f"there is a key {name} already")
        if not KEY_ID.fullmatch(name):
            raise KeyringError(f"key id {name!r} must be 1 to 32 letters, digits, - and _")
        _write(path, keys | {name: os.urandom(KEY_BYTES)})
    return name


def activate_key(path: Path, key_id: str) -> None:
    """Make a key of the file the one that encrypts. Raises ``KeyringError`` where it is not there."""
    with _writing(path):
        keys = read_keys(path)
        if key_id not in keys:
            raise KeyringError(f"there is no key {key_id} in {path}; it has: {', '.join(keys)}")
        _write(path, {key_id: keys[key_id]} | keys)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """One writer at a time; the lock is the directory, so that a file replaced meanwhile is no gap."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        directory = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise KeyringError(f"no encryption key can be kept at {path}: {error}") from None
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def _write(path: Path, keys: Mapping[str, bytes]) -> None:
    lines = "".join(f"{key_id}:{base64.b64encode(key).decode()}\n" for key_id, key in keys.items())
    draft = None
    try:
        handle, draft = tempfile.mkstemp(dir=path.parent, prefix=".key-")  # mode 0600
        with os.fdopen(handle, "w") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError as error:
        if draft is not None:
            Path(draft).unlink(missing_ok=True)
        raise KeyringError(f"no encryption key can be kept at {path}: {error}") from None
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        # The new name must survive a loss of power: what is encrypted next cannot be read without it.
        os.fsync(directory)
    finally:
        os.close(directory)
