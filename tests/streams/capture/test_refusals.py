"""An alert for each cause, not for each row."""

from structlog.testing import capture_logs

from streams.capture.refusals import AGAIN_S, Alarm, Refusal


class Clock:
    """A clock that is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def large(count: int, start: int = 0) -> dict[str, Refusal]:
    return {f"r{number}": Refusal("too_large", f"{number} bytes") for number in range(start, start + count)}


def test_a_cause_is_told_once_and_later_how_many_more_rows_it_had() -> None:
    clock = Clock()
    alarm = Alarm("outbox", "webhook outbox parked list", clock)
    with capture_logs() as logs:
        alarm.tell(large(100))
        alarm.tell(large(3, 100) | {"odd": Refusal("undecodable", "no Avro")})
        alarm.tell({})
    assert [(each["cause"], each["rows"], each["row"]) for each in logs] == [
        ("too_large", 100, "r0"),
        ("undecodable", 1, "odd"),
    ]
    assert {each["log_level"] for each in logs} == {"error"}
    assert {each["shown_by"] for each in logs} == {"webhook outbox parked list"}
    clock.now = AGAIN_S
    with capture_logs() as logs:
        alarm.tell({})
        alarm.tell({})
        alarm.tell(large(1, 103))
    assert [(each["cause"], each["rows"]) for each in logs] == [("too_large", 3)]
