"""Commands to move records, on `.signals` (R16)."""

from collections.abc import Iterator

import pytest
from confluent_kafka import Producer

from schemas.codec import encode
from schemas.events import Signal, now_micros
from streams.broker.connection import producer_config
from streams.control.moves import Move, MoveFollower, send_moves
from streams.settings import Settings
from tests.support.waiting import eventually

FIRST = Move("webhook-high", 3, 500, "webhook-redis", 0, 16)
SECOND = Move("webhook-high", 0, 7, "webhook-redis")


def _fail(name: str, error: BaseException) -> None:
    raise AssertionError(f"{name}: {error}")


class Heard:
    """What a follower hands on."""

    def __init__(self, settings: Settings) -> None:
        self.moves: list[Move] = []
        self.follower = MoveFollower(settings, lambda move, _: self.moves.append(move), _fail)
        self.follower.start()


@pytest.fixture
def heard(embedded_settings: Settings) -> Iterator[Heard]:
    heard = Heard(embedded_settings)
    yield heard
    heard.follower.stop()


@pytest.mark.embedded
def test_commands_are_heard_by_who_listens_and_by_who_comes_while_they_hold(
    embedded_settings: Settings, heard: Heard
) -> None:
    send_moves(embedded_settings, [FIRST, SECOND], by="test")
    eventually(lambda: heard.moves == [FIRST, SECOND])
    late = Heard(embedded_settings)
    assert late.moves == [FIRST, SECOND]
    late.follower.stop()


@pytest.mark.embedded
def test_what_has_expired_and_what_nobody_understands_is_passed_over(embedded_settings: Settings) -> None:
    topic, producer = embedded_settings.catalogue().signals, Producer(producer_config(embedded_settings))
    now = now_micros()
    value = '{"tier": "webhook-high", "partition": 1, "up_to": 9, "target": "webhook-redis", "later": "more"}'
    values = [
        (value, now - 90_000_000, now - 30_000_000),
        ('{"tier": "webhook-high", "partition": 1, "up_to": 9, "target": "webhook-failed"}', now, now + 60_000_000),
        ('{"tier": "webhook-high"}', now, now + 60_000_000),
        (value, now - 30_000_000, now + 30_000_000),
    ]
    for text, sent_at, expires_at in values:
        signal = Signal(kind="move", sender="test", value=text, sent_at=sent_at, expires_at=expires_at)
        producer.produce(topic, encode(signal), b"move|webhook-high|1")
    producer.produce(topic, b"rubbish", b"move|webhook-high|1")
    producer.produce(topic, b"rubbish", b"a heartbeat's key")
    assert producer.flush(10) == 0
    heard = Heard(embedded_settings)
    assert heard.moves == [Move("webhook-high", 1, 9, "webhook-redis")]
    heard.follower.stop()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"tier": "webhook-fax"}, "'webhook-fax'"),
        ({"target": "webhook-failed"}, "'webhook-failed'"),
        ({"tier": "webhook-failed"}, "'webhook-failed'"),
        ({"target": "webhook-high"}, "to itself"),
        ({"partition": -1}, "begin at 0"),
        ({"first_slice": 7, "end_slice": 7}, "slices 7 to 7"),
        ({"end_slice": 65}, "slices 0 to 65"),
    ],
)
def test_a_command_that_can_mean_nothing_is_refused(values: dict[str, object], expected: str) -> None:
    known = {"tier": "webhook-high", "partition": 0, "up_to": 5, "target": "webhook-redis"}
    with pytest.raises(ValueError, match=expected):
        Move(**{**known, **values})  # type: ignore[arg-type]


@pytest.mark.parametrize("lifetime_s", [0, -1, 601, float("nan")])
def test_a_command_has_a_life_of_at_most_ten_minutes(lifetime_s: float) -> None:
    with pytest.raises(ValueError, match="at most 600"):
        send_moves(Settings(), [FIRST], by="test", lifetime_s=lifetime_s)
