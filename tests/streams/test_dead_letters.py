"""Dead letters on a broker: listed once each, put back, dismissed, counted."""

import pytest
from confluent_kafka import Producer

from schemas.codec import encode
from schemas.events import DeadLetter, RecordHeader, now_micros
from streams.broker.connection import producer_config
from streams.dead_letters import DeadLetters
from streams.headers import record_headers
from streams.settings import Settings
from tests.streams.engine.workload import Reader
from tests.support.waiting import eventually
from topics.catalogue import Catalogue


def letter(settings: Settings, offset: int, **changes: object) -> DeadLetter:
    fields: dict[str, object] = {
        "topic": settings.catalogue().topic("webhook-high"),
        "partition": 1,
        "offset": offset,
        "group": "webhook-high",
        "reason": "undecodable",
        "error": "not in Confluent wire format",
        "failed_at": now_micros() + offset * 1000,
        "record_key": b"1|Order|7",
        "value": b"rubbish %d" % offset,
        "headers": [RecordHeader(name="traceparent", value=b"00-1"), RecordHeader(name="empty", value=None)],
    }
    return DeadLetter(**{**fields, **changes})  # type: ignore[arg-type]


def write(settings: Settings, *letters: DeadLetter) -> None:
    producer = Producer(producer_config(settings))
    for each in letters:
        producer.produce(settings.catalogue().dead_letters, encode(each), each.record_key, headers=record_headers(each))
    assert producer.flush(20) == 0


def check(settings: Settings) -> None:
    letters = DeadLetters(settings)
    assert letters.letters() == []
    keyless = letter(settings, 3, record_key=None, partition=2, value=None)
    # The same record given up twice is one letter.
    write(settings, letter(settings, 1), letter(settings, 2), letter(settings, 1), keyless)
    found = letters.letters()
    assert [(each.record.offset, each.state, each.size) for each in found] == [
        (1, "waiting", 9),
        (2, "waiting", 9),
        (3, "waiting", None),
    ]
    assert all(each.record.value is None for each in found)

    topic = Reader(settings, settings.catalogue().topic("webhook-high"))
    assert letters.retry([found[0], found[2]], "ann") == 2
    assert letters.dismiss([found[1]], "bob", "a test") == 1
    eventually(lambda: len(topic.read()) == 2)
    (first,) = (each for each in topic.seen if each.value == b"rubbish 1")
    assert first.key == b"1|Order|7"
    assert first.headers == {"traceparent": b"00-1", "empty": None, "dead_letter": found[0].id.encode()}
    (other,) = (each for each in topic.seen if each.key is None)
    assert other.partition == 2
    topic.close()

    settled = letters.letters()
    assert [(each.id, each.state, each.decided_by) for each in settled] == [
        (found[0].id, "retried", "ann"),
        (found[1].id, "dismissed", "bob"),
        (found[2].id, "retried", "ann"),
    ]
    assert settled[1].note == "a test"


@pytest.mark.embedded
def test_letters_are_listed_put_back_and_dismissed(embedded_settings: Settings) -> None:
    check(embedded_settings)


@pytest.mark.kafka
def test_the_same_on_kafka_where_those_of_a_group_are_counted_by_time(
    kafka_settings: Settings, catalogue: Catalogue
) -> None:
    check(kafka_settings)
    letters, now_ms = DeadLetters(kafka_settings), now_micros() // 1000
    assert len(letters.written_since(now_ms - 60_000, "webhook-high")) == 4
    assert letters.written_since(now_ms - 60_000, "webhook-low") == []
    assert letters.written_since(now_ms + 60_000, "webhook-high") == []


@pytest.mark.embedded
def test_a_record_that_was_put_back_and_fails_again_is_a_new_letter(embedded_settings: Settings) -> None:
    letters = DeadLetters(embedded_settings)
    write(embedded_settings, letter(embedded_settings, 1))
    letters.retry(letters.letters(), "ann")
    again = letter(embedded_settings, 9, headers=[RecordHeader(name="dead_letter", value=b"0-0")])
    write(embedded_settings, again)
    first, second = letters.letters()
    assert (first.state, second.state, second.record.offset) == ("retried", "waiting", 9)
    letters.retry([second], "ann")
    topic = Reader(embedded_settings, embedded_settings.catalogue().topic("webhook-high"))
    eventually(lambda: {each.headers["dead_letter"].decode() for each in topic.read()} == {first.id, second.id})
    topic.close()
