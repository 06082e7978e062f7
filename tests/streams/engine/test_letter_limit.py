"""How many unreadable records a group may give up within a minute."""

import pytest

from streams.engine.letter_limit import DeadLetterFlood, DeadLetterLimit
from streams.settings import Settings
from tests.streams.test_dead_letters import letter, write
from topics.catalogue import Catalogue


class _Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_one_too_many_within_a_minute_is_refused_and_later_ones_are_not(settings: Settings) -> None:
    clock = _Clock()
    limit = DeadLetterLimit(settings.model_copy(update={"dead_letters_per_minute": 3}), "webhook-high", clock)
    for _ in range(3):
        limit.count()
        clock.now += 10
    with pytest.raises(DeadLetterFlood, match="webhook-high gave up 3 records"):
        limit.count()
    clock.now += 31
    limit.count()
    with pytest.raises(DeadLetterFlood):
        limit.count()


@pytest.mark.kafka
async def test_what_the_group_gave_up_before_the_start_counts(kafka_settings: Settings, catalogue: Catalogue) -> None:
    settings = kafka_settings.model_copy(update={"dead_letters_per_minute": 3})
    write(settings, letter(settings, 1), letter(settings, 2), letter(settings, 3, group="webhook-low"))
    limit = DeadLetterLimit(settings, "webhook-high")
    await limit.start()
    limit.count()
    with pytest.raises(DeadLetterFlood):
        limit.count()
