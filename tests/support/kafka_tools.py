"""Kafka's own command-line tools, run from the same jars as the local broker."""

import subprocess
from dataclasses import dataclass

from streams.broker.jars import kafka_java

CONSOLE_CONSUMER = "org.apache.kafka.tools.consumer.ConsoleConsumer"
CONSUMER_GROUPS = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"

_TIMEOUT_S = 120
_GROUP, _TOPIC, _PARTITION, _COMMITTED, _END, _LAG = range(6)


@dataclass(frozen=True, slots=True)
class GroupOffset:
    """One line of the consumer group tool: records committed, written, and the difference."""

    group: str
    topic: str
    partition: int
    committed: int
    end: int
    lag: int


def run_kafka_tool(main_class: str, *arguments: str) -> str:
    """Run a tool and return what it prints. Raises ``AssertionError`` with its output where it fails."""
    quiet = ("-Dorg.slf4j.simpleLogger.defaultLogLevel=error",)
    command = kafka_java().command(main_class, *arguments, options=quiet)
    done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S, check=False)
    output = done.stdout.decode(errors="replace")
    assert done.returncode == 0, f"{main_class} failed:\n{output}{done.stderr.decode(errors='replace')}"
    return output


def describe_groups(bootstrap_servers: str, *groups: str) -> list[GroupOffset]:
    """Committed offsets of groups (none named: all), as Kafka's own tool sees them; without uncommitted partitions."""
    chosen = [part for group in groups for part in ("--group", group)] or ["--all-groups"]
    text = run_kafka_tool(CONSUMER_GROUPS, "--bootstrap-server", bootstrap_servers, "--describe", *chosen)
    rows = [line.split() for line in text.splitlines()]
    return [
        GroupOffset(row[_GROUP], row[_TOPIC], *(int(row[each]) for each in (_PARTITION, _COMMITTED, _END, _LAG)))
        for row in rows
        if len(row) > _LAG and row[_LAG].isdecimal()
    ]


def console_consumer(bootstrap_servers: str, topic: str, records: int) -> str:
    """What the console consumer prints of the first records of a topic: partition, offset, headers, key and value."""
    shown = ("print.partition", "print.offset", "print.headers", "print.key")
    properties = [part for name in shown for part in ("--formatter-property", f"{name}=true")]
    arguments = ("--topic", topic, "--from-beginning", "--max-messages", str(records), "--timeout-ms", "60000")
    return run_kafka_tool(CONSOLE_CONSUMER, "--bootstrap-server", bootstrap_servers, *arguments, *properties)
