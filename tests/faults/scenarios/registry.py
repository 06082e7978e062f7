"""Every scenario by name: one is added here."""

from typing import Final

from tests.faults.scenario import Scenario
from tests.faults.scenarios import (
    balance,
    health,
    neighbours,
    network,
    pipelines,
    roles,
    services,
    time,
    together,
    upstreams,
    workers,
    writers,
)

SCENARIOS: Final[dict[str, Scenario]] = {
    scenario.name: scenario
    for scenario in (
        *workers.SCENARIOS,
        *roles.SCENARIOS,
        *services.SCENARIOS,
        *network.SCENARIOS,
        *time.SCENARIOS,
        *pipelines.SCENARIOS,
        *neighbours.SCENARIOS,
        *upstreams.SCENARIOS,
        *health.SCENARIOS,
        *balance.SCENARIOS,
        *together.SCENARIOS,
        *writers.SCENARIOS,
    )
}
