"""The short set: the fault scenarios that every test run performs, in the sizes of CI."""

import os
from dataclasses import asdict

import pytest

from streams.errors import SetupError
from tests.faults.scenario import perform
from tests.faults.scenarios.registry import SCENARIOS
from tests.support.services import missing

SHORT = {name: scenario.short for name, scenario in SCENARIOS.items() if scenario.short is not None}

pytestmark = [pytest.mark.kafka, pytest.mark.postgres, pytest.mark.timeout(600)]


@pytest.mark.parametrize("name", SHORT)
def test_every_promise_is_kept(name: str) -> None:
    size = SHORT[name]
    assert size is not None
    try:
        report = perform(SCENARIOS[name], size, seed=int(os.environ.get("WEBHOOK_TEST_SEED", "1")))
    except SetupError as error:
        missing("Apache Kafka or PostgreSQL", error)
    assert report.violations == [], asdict(report)
    assert report.events > 0
