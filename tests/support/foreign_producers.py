"""Producers in other languages, as `tests/integration/producers` has them: built with what their registries give.

What is fetched is kept in the user's cache, named by what was asked for, so that a second run needs no network.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple
from xml.etree import ElementTree

from jgo.maven import MavenContext

from schemas.store import load_ids
from streams.broker.jars import KAFKA_VERSION, Java, cache_directory, kafka_java
from streams.errors import SetupError
from tests.support.services import missing

_SOURCES: Final = Path(__file__).parents[1] / "integration" / "producers"
_SCHEMA: Final = Path(__file__).parents[2] / "schemas" / "avro" / "model_changed.v1.avsc"
_SCHEMA_ID: Final = next(number for number, name in load_ids().items() if name == "model_changed.v1")
_POM: Final = {"": "http://maven.apache.org/POM/4.0.0"}
_FETCH_S: Final = 120
_RUN_S: Final = 120


class Written(NamedTuple):
    """Where a producer's record lies, and the id of its change."""

    topic: str
    partition: int
    offset: int
    change_id: str


class ForeignProducer:
    """A producer's command, to which its arguments are added."""

    def __init__(self, command: Sequence[str | Path], directory: Path) -> None:
        self._command = command
        self._directory = directory

    def send(self, bootstrap_servers: str, topic: str, *change: str) -> Written:
        """Tell of one change: tenant, model, id, event, payload. Raises ``AssertionError`` where the program fails."""
        arguments = (bootstrap_servers, topic, _SCHEMA, _SCHEMA_ID, *change)
        output = _run([*self._command, *map(str, arguments)], self._directory, _RUN_S)
        told = output.split()
        assert len(told) == 4, output
        return Written(told[0], int(told[1]), int(told[2]), told[3])


def java_producer(directory: Path) -> ForeignProducer:
    """The one in Java, compiled into ``directory``. Skips the test, or fails it in CI, without compiler or jars."""
    sources = _SOURCES / "java"
    compiler = shutil.which("javac")
    if compiler is None:
        missing("A Java compiler", SetupError("There is no javac on the path.", "Install a JDK, 17 or newer."))
    try:
        java, classpath = kafka_java(), _classpath(sources / "pom.xml")
    except SetupError as error:
        missing("What the Java producer needs", error)
    source = sources / "ModelChangedProducer.java"
    strict = ("-Xlint:all", "-Werror", "-proc:none", "--release", "17")
    _run([compiler, *strict, "-cp", classpath, "-d", directory, source], directory, _RUN_S)
    quiet = ("-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-XX:TieredStopAtLevel=1")
    runtime = Java(java.executable, os.pathsep.join((str(directory), classpath)))
    return ForeignProducer(runtime.command("ModelChangedProducer", options=quiet), directory)


def node_producer(directory: Path) -> ForeignProducer:
    """The one in JavaScript. Skips the test, or fails it in CI, without Node or its packages."""
    node = shutil.which("node")
    if node is None:
        missing("Node", SetupError("There is no node on the path.", "Install Node, 20 or newer."))
    for source in (_SOURCES / "node").glob("*.js*"):
        shutil.copy(source, directory)
    try:
        packages = _packages(_SOURCES / "node")
    except SetupError as error:
        missing("What the Node producer needs", error)
    (directory / "node_modules").symlink_to(packages)
    return ForeignProducer([node, "produce.js"], directory)


def _classpath(pom: Path) -> str:
    """The jars of a project and those that they need. Raises ``SetupError`` where Maven Central does not give them."""
    project = ElementTree.parse(pom)
    wanted = [
        ":".join(each.findtext(name, "", _POM) for name in ("groupId", "artifactId", "version"))
        for each in project.iterfind("dependencies/dependency", _POM)
    ]
    with _kept("java-producer", " ".join(wanted)) as kept:
        listed = kept / "classpath"
        if not listed.exists() or not all(Path(jar).exists() for jar in listed.read_text().split(os.pathsep)):
            # Where Kafka's own jars are kept: most of these are among them.
            repository = cache_directory() / f"kafka-{KAFKA_VERSION}" / "repository"
            try:
                context = MavenContext(repo_cache=repository, timeout=_FETCH_S)
                named, others = context.resolver.resolve([context.create_dependency(each) for each in wanted])
                needed = [*named, *(each for each in others if each.scope in ("compile", "runtime"))]
                jars = [str(each.artifact.resolve()) for each in needed]
            except (OSError, RuntimeError, ValueError) as error:
                raise SetupError(f"Maven Central does not give {', '.join(wanted)}: {error}.", "Try later.") from error
            listed.write_text(os.pathsep.join(jars))
        return listed.read_text()


def _packages(project: Path) -> Path:
    """The ``node_modules`` of a project's lock file. Raises ``SetupError`` where npm does not give them."""
    lock = (project / "package-lock.json").read_text()
    with _kept("node-producer", lock) as kept:
        if not (kept / "node_modules").exists():
            with tempfile.TemporaryDirectory(dir=kept) as attempt:
                for name in ("package.json", "package-lock.json"):
                    shutil.copy(project / name, attempt)
                command = ["npm", "ci", "--silent", "--ignore-scripts", "--fetch-retries=1"]
                try:
                    subprocess.run(command, cwd=attempt, check=True, capture_output=True, timeout=_FETCH_S)
                except (OSError, subprocess.SubprocessError) as error:
                    raise SetupError(f"npm does not give the packages of {project}: {error}.", "Try later.") from error
                (Path(attempt) / "node_modules").rename(kept / "node_modules")
        return kept / "node_modules"


@contextmanager
def _kept(name: str, content: str) -> Iterator[Path]:
    """A directory in the user's cache for what ``content`` asks for, ours alone while it is open."""
    directory = cache_directory() / f"{name}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield directory


def _run(command: Sequence[str | Path], directory: Path, timeout_s: float) -> str:
    """What a program prints. Raises ``AssertionError`` with its errors where it does not exit with 0."""
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert done.returncode == 0, f"{command[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout
