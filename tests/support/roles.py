"""An installation whose roles are processes of their own, each started by the real command."""

import base64
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import ConsumerGroupState, KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

import streams
from streams.settings import Settings
from tests.support import journal

_COMMAND = str(Path(sys.executable).with_name("webhook"))
_TREE = Path(streams.__file__).parents[1]
_QUEUES = ("high", "beanstalk", "redis", "db", "low", "failed")
_COMMAND_S = 180
_STOP_S = 60
_SHOWN_LINES = 30
_NO_COORDINATOR = frozenset(
    {KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.COORDINATOR_LOAD_IN_PROGRESS}
)


class Role:
    """One process of a role, and the file with what it printed."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.process = process
        self.log = log
        self.expected_to_run = True

    @property
    def pid(self) -> int:
        return self.process.pid

    def kill(self) -> None:
        """End it as ``kill -9`` does."""
        self.expected_to_run = False
        self.process.kill()
        self.process.wait(_STOP_S)

    def ask_to_stop(self) -> None:
        """Send SIGTERM."""
        self.expected_to_run = False
        self.process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        """Send SIGTERM and wait. Raises ``AssertionError`` where it does not end with exit code 0."""
        self.ask_to_stop()
        self.wait_stopped()

    def wait_stopped(self) -> None:
        """Wait for the end after ``ask_to_stop``. Raises as ``stop`` does."""
        code = self.process.wait(_STOP_S)
        assert code == 0, f"{self.name} ended with {code}:\n{self.tail()}"

    def tail(self) -> str:
        """The last lines it printed."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-_SHOWN_LINES:])


class Installation:
    """Commands and roles that share topics, database and keys; each role has a data directory of its own."""

    def __init__(self, settings: Settings, database_url: str, directory: Path) -> None:
        self.settings = settings
        self.roles: list[Role] = []
        self.journal = directory / "journal"
        self._directory = directory
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("WEBHOOK_")},
            **{f"WEBHOOK_{name.upper()}_QUEUE": getattr(settings, f"{name}_queue") for name in _QUEUES},
            "WEBHOOK_BOOTSTRAP_SERVERS": settings.bootstrap_servers or "",
            "WEBHOOK_DATABASE_URL": database_url,
            "WEBHOOK_TOPIC_PREFIX": settings.topic_prefix,
            "WEBHOOK_PARTITIONS": str(settings.partitions),
            "WEBHOOK_SESSION_TIMEOUT_S": "6",
            "WEBHOOK_ENCRYPTION_KEYS": f"test:{base64.b64encode(os.urandom(32)).decode()}",
            "PYTHONPATH": python_path(install_journal(directory / "plugins")),
            journal.JOURNAL: str(self.journal),
        }

    def run(self, *arguments: str) -> str:
        """What ``webhook`` prints. Raises ``AssertionError`` where it does not exit with 0."""
        environment = {**self._environment, "WEBHOOK_DATA_DIR": str(self._directory / "command")}
        done = subprocess.run(
            [_COMMAND, *arguments], env=environment, capture_output=True, text=True, timeout=_COMMAND_S, check=False
        )
        assert done.returncode == 0, f"webhook {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}"
        return done.stdout

    def start(self, *arguments: str, extra: Mapping[str, str] | None = None, prefix: Sequence[str] = ()) -> Role:
        """Start a role: ``start("work", "webhook-high")``; ``extra`` are environment variables.

        ``prefix`` is a command that replaces itself by the one it is given, such as ``ip netns exec NAME``.
        """
        directory = self._directory / f"role-{len(self.roles)}-{arguments[0]}"
        directory.mkdir()
        environment = {**self._environment, "WEBHOOK_DATA_DIR": str(directory / "data"), **(extra or {})}
        log = directory / "log"
        with log.open("wb") as output:
            process = subprocess.Popen([*prefix, _COMMAND, *arguments], env=environment, stdout=output, stderr=output)
        role = Role(f"webhook {' '.join(arguments)}", process, log)
        self.roles.append(role)
        return role

    def check(self) -> None:
        """Raises ``RuntimeError`` with its last lines where a role ended by itself."""
        for role in list(self.roles):
            if role.expected_to_run and role.process.poll() is not None and role.expected_to_run:
                raise RuntimeError(f"{role.name} ended with {role.process.returncode}:\n{role.tail()}")


@contextmanager
def installation(settings: Settings, database_url: str, directory: Path) -> Iterator[Installation]:
    """An installation; whatever of it still runs in the end is killed."""
    made = Installation(settings, database_url, directory)
    try:
        yield made
    finally:
        for role in made.roles:
            if role.process.poll() is None:
                role.kill()


def python_path(plugins: Path) -> str:
    """``PYTHONPATH`` of a role: a directory with plugins, and this source tree, whatever else is installed."""
    return os.pathsep.join((str(plugins), str(_TREE)))


def has_members(admin: AdminClient, group: str, topic: str, members: int) -> bool:
    """Whether a group is stable with so many members, each of which has partitions of ``topic``."""
    try:
        described = admin.describe_consumer_groups([group], request_timeout=10)[group].result()
    except KafkaException as error:
        # While the broker makes the group's coordinator, or moves it, there is no answer.
        if error.args[0].code() in _NO_COORDINATOR:
            return False
        raise
    topics = [[each.topic for each in member.assignment.topic_partitions] for member in described.members]
    is_stable: bool = described.state == ConsumerGroupState.STABLE
    return is_stable and len(topics) == members and all(topic in each for each in topics)


def install_journal(directory: Path) -> Path:
    """The journal's plugin as a distribution in a directory of its own, to be put on the path."""
    metadata = directory / "webhook_journal_plugin-1.0.0.dist-info"
    metadata.mkdir(parents=True)
    shutil.copy(journal.__file__, directory / "webhook_journal_plugin.py")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: webhook-journal-plugin\nVersion: 1.0.0\n")
    (metadata / "entry_points.txt").write_text("[webhook_streams.plugins]\njournal = webhook_journal_plugin:PLUGIN\n")
    return directory
