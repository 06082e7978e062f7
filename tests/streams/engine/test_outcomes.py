"""An outcome that cannot be written is followed by one that can (R3)."""

import pytest

from schemas.events import Source, TaskEvent, now_micros
from streams.engine.outcomes import UNTOLD, OutcomeWriter, _Delivery
from streams.settings import Settings
from tests.streams.engine.workload import Reader
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.embedded


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"result": "x" * 2 * 1024 * 1024}, "too large"), ({"error_code": 5}, "does not fit its schema")],
    ids=["too-large", "not-avro"],
)
async def test_a_refused_outcome_becomes_a_minimal_one(
    embedded_settings: Settings, changes: dict[str, object], reason: str
) -> None:
    crashes: list[BaseException] = []
    topic = embedded_settings.catalogue().events
    writer = OutcomeWriter(embedded_settings, lambda _, error: crashes.append(error))
    await writer.start()
    now = now_micros()
    event = TaskEvent(
        kind="step_completed",
        event_id="event",
        run=1,
        step=0,
        attempt=2,
        dispatch_seq=1,
        tenant_id="1",
        accepted_at=now,
        recorded_at=now,
        next_topic="somewhere",
        next_step=1,
        next_attempt=1,
    )
    for name, value in changes.items():
        setattr(event, name, value)
    reader = Reader(embedded_settings, topic)
    offset = await writer.write(event, Source("tier", 1, 7), b"key")
    await eventually_async(lambda: len(reader.read()) == 1)
    await writer.stop()
    written = reader.events()[0]
    assert (written.kind, written.error_code, written.next_topic) == (
        "failed_permanently",
        "outcome_not_writable",
        None,
    )
    assert reason in (written.error or "")
    assert (reader.seen[0].offset, reader.seen[0].partition) == (offset, 1)
    assert reader.seen[0].headers["kind"] == b"failed_permanently"
    assert reader.seen[0].headers["identity"] == b"event|1|0|2"
    # Whoever wrote it sees what was written, so that no sequel is produced.
    assert (event.kind, event.next_topic) == ("failed_permanently", None)
    assert not crashes
    reader.close()


async def test_a_report_without_a_place_says_so(embedded_settings: Settings) -> None:
    """What was sent again and was there already is delivered, and no broker says where (R2, R3)."""

    class Delivered:
        def offset(self) -> None:
            return None

    offsets: list[int] = []
    writer = OutcomeWriter(embedded_settings, lambda _, error: pytest.fail(str(error)))
    _Delivery(writer, offsets.append, None).report(None, Delivered())
    assert offsets == [UNTOLD]
