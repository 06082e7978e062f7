import threading
from pathlib import Path

import pytest

from handlers.tenants.encryption import DecryptionError, Keyring, KeyringError
from handlers.tenants.key_file import activate_key, add_key, open_key_file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "encryption"


def test_a_made_file_is_private_and_survives_a_second_start(path: Path) -> None:
    value = open_key_file(path).encrypt("text", "1", "c")

    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["encryption"]
    assert open_key_file(path).decrypt(value, "1", "c") == "text"
    assert Keyring.read(path).decrypt(value, "1", "c") == "text"
    path.chmod(0o640)
    with pytest.raises(KeyringError, match="chmod 600"):
        Keyring.read(path)
    with pytest.raises(KeyringError, match="cannot be read"):
        Keyring.read(path.with_name("absent"))


def test_processes_that_start_together_agree_on_one_key(path: Path) -> None:
    barrier = threading.Barrier(8)
    rings: list[Keyring] = []

    def start() -> None:
        barrier.wait()
        rings.append(open_key_file(path))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    value = rings[0].encrypt("text", "1", "c")
    assert [ring.decrypt(value, "1", "c") for ring in rings] == ["text"] * 8


def test_a_running_process_follows_the_file(path: Path) -> None:
    running = open_key_file(path)
    old = running.encrypt("old", "1", "c")
    assert add_key(path) == "k2"
    assert running.ids == ("k1", "k2")
    assert running.encrypt("x", "1", "c").startswith("v1.k1.")

    activate_key(path, "k2")
    new = running.encrypt("new", "1", "c")
    assert new.startswith("v1.k2.")
    assert [running.decrypt(each, "1", "c") for each in (old, new)] == ["old", "new"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_value_of_a_key_added_since_is_read_without_a_restart(path: Path) -> None:
    running = open_key_file(path)
    add_key(path, "next")
    activate_key(path, "next")
    assert running.decrypt(Keyring.read(path).encrypt("text", "1", "c"), "1", "c") == "text"


@pytest.mark.parametrize("broken", ["", "k1", "k1:AAAA"])
def test_a_file_that_breaks_later_stops_nobody(path: Path, broken: str) -> None:
    running = open_key_file(path)
    value = running.encrypt("text", "1", "c")
    path.write_text(broken)
    assert running.decrypt(value, "1", "c") == "text"
    assert running.decrypt(running.encrypt("more", "1", "c"), "1", "c") == "more"
    path.unlink()
    assert running.decrypt(running.encrypt("more", "1", "c"), "1", "c") == "more"
    with pytest.raises(DecryptionError, match="'kx'"):
        running.decrypt("v1.kx.a.b", "1", "c")


def test_ids_are_checked_and_taken_ones_refused(path: Path) -> None:
    open_key_file(path)
    before = path.read_text()
    for key_id, words in (("k1", "already"), ("a b", "letters"), ("x" * 33, "letters")):
        with pytest.raises(KeyringError, match=words):
            add_key(path, key_id)
    with pytest.raises(KeyringError, match="no key k7"):
        activate_key(path, "k7")
    assert path.read_text() == before


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KeyringError, match="no encryption key can be kept"):
        open_key_file(tmp_path / "file" / "keys")
