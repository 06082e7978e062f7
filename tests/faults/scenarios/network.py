"""Faults between a worker and the broker: packets lost, slow or half-open connections, resets (F7, F8)."""

from typing import Final

from tests.faults.laboratory import TIER, Laboratory
from tests.faults.network import Namespace, Proxy
from tests.faults.scenario import Scenario, Size

WORKERS: Final = 2
SLOW_S: Final = 0.2
# A worker that is cut off is taken for dead; what it had not yet told the log is done again.
REPEATS: Final = frozenset({"repeated"})


def play_unplugged(laboratory: Laboratory, size: Size) -> None:
    """One worker loses every packet for longer than its session, then has its network back and knows nothing."""
    namespace = Namespace()
    laboratory.cleanup.callback(namespace.close)
    port = laboratory.kafka.add_listener(namespace.host_address)
    load = laboratory.start(WORKERS - 1)
    servers = {"WEBHOOK_BOOTSTRAP_SERVERS": f"{namespace.host_address}:{port}"}
    worker = laboratory.supervisor.add("work", TIER, extra=servers, prefix=namespace.prefix)
    laboratory.wait_members(WORKERS)
    load.start(size.rate)
    laboratory.hold(size.step_s / 2)
    for _ in range(size.faults):
        laboratory.mark("a worker is unplugged")
        worker.disturb()
        namespace.unplug()
        laboratory.hold(size.step_s)
        namespace.plug()
        laboratory.wait_members(WORKERS)
        laboratory.hold(size.step_s / 2)


def play_proxy(laboratory: Laboratory, size: Size) -> None:
    """One worker's connections are slow, then half-open, then reset, in turn."""
    proxy = Proxy()
    laboratory.cleanup.callback(proxy.close)
    proxy.target = laboratory.kafka.add_listener("127.0.0.1", proxy.port)
    load = laboratory.start(WORKERS - 1)
    worker = laboratory.supervisor.add("work", TIER, extra={"WEBHOOK_BOOTSTRAP_SERVERS": f"127.0.0.1:{proxy.port}"})
    laboratory.wait_members(WORKERS)
    load.start(size.rate)
    laboratory.hold(size.step_s / 2)
    for number in range(size.faults):
        worker.disturb()
        _disturb(laboratory, proxy, number % 3, size.step_s)
        laboratory.wait_members(WORKERS)
        laboratory.hold(size.step_s / 2)


def _disturb(laboratory: Laboratory, proxy: Proxy, kind: int, seconds: float) -> None:
    if kind == 0:
        laboratory.mark(f"{SLOW_S} s each way")
        proxy.delay_s = SLOW_S
        laboratory.hold(seconds)
        proxy.delay_s = 0.0
    elif kind == 1:
        laboratory.mark("connections are half-open")
        proxy.hold()
        laboratory.hold(seconds)
        proxy.go_on()
    else:
        for _ in range(5):
            laboratory.mark("connections are reset")
            proxy.reset()
            laboratory.hold(seconds / 5)


SCENARIOS: Final = (
    Scenario(
        "unplugged",
        "F7: a worker loses every packet, and comes back",
        play_unplugged,
        full=Size(rate=100, faults=3, step_s=20),
        allowed=REPEATS,
    ),
    Scenario(
        "bad-connection",
        "F8: slow, half-open and reset connections of a worker",
        play_proxy,
        full=Size(rate=100, faults=6, step_s=15),
        allowed=REPEATS,
    ),
)
