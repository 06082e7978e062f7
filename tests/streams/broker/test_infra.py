"""The deployment files say what the code says, and Kafka accepts them."""

import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from streams.broker.jars import COORDINATES, kafka_java
from topics.catalogue import build_catalogue

INFRA = Path(__file__).parents[3] / "infra" / "kafka"
DAY_MS = 24 * 3600 * 1000


def broker_properties() -> dict[str, str]:
    lines = (INFRA / "broker" / "server.properties").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_the_pom_names_the_same_versions() -> None:
    space = {"m": "http://maven.apache.org/POM/4.0.0"}
    found = ElementTree.parse(INFRA / "pom.xml").findall("m:dependencies/m:dependency", space)
    coordinates = [
        ":".join(str(each.findtext(f"m:{part}", None, space)) for part in ("groupId", "artifactId", "version"))
        for each in found
    ]
    assert coordinates == list(COORDINATES)


def test_the_table_of_topics_is_the_catalogue() -> None:
    def kept(milliseconds: int) -> str:
        if milliseconds < 0:
            return "for ever"
        return f"{milliseconds // DAY_MS} days" if milliseconds >= DAY_MS else f"{milliseconds // 3_600_000} hour"

    lines = (INFRA / "topics" / "README.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith("| `")]
    assert rows == [
        f"| `{spec.name}` | {spec.partitions} | {kept(spec.retention_ms)} | {spec.cleanup} | {spec.record} |"
        for spec in build_catalogue().specs.values()
    ]


def test_the_broker_takes_the_largest_record_and_keeps_offsets_longer_than_tiers() -> None:
    properties = broker_properties()
    specs = build_catalogue().specs.values()
    largest = max(spec.max_message_bytes for spec in specs)
    assert int(properties["message.max.bytes"]) == int(properties["replica.fetch.max.bytes"]) == largest
    longest_tier = max(spec.retention_ms for spec in specs if spec.record == "TaskReady")
    assert int(properties["offsets.retention.minutes"]) * 60_000 > longest_tier


@pytest.mark.kafka
def test_kafka_accepts_the_sample(kafka: str, tmp_path: Path) -> None:
    assert kafka, "the jars are there"
    text = (INFRA / "broker" / "server.properties").read_text().replace("/var/lib/kafka", str(tmp_path))
    (tmp_path / "server.properties").write_text(text)
    arguments = ("format", "--cluster-id", "AAAAAAAAAAAAAAAAAAAAAA", "--config", str(tmp_path / "server.properties"))
    command = kafka_java().command("kafka.tools.StorageTool", *arguments)
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "data" / "meta.properties").is_file()
