"""Run every benchmark on a Kafka and a PostgreSQL of its own: ``python -m tests.bench [--json]``."""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from streams.broker import local
from tests.bench import capture, engine, projector, relay

# What each ratio has to reach at least; that of the memory is the bound over what a worker takes.
WANTED = {"engine_noop": 0.5, "engine_200ms": 0.9, "engine_memory": 1.0, "projector": 0.3, "relay": 0.3}
# The mixin costs a transaction at most a quarter more with one row, and 15 % with ten.
WANTED |= {"capture_one_row": 1 / 1.25, "capture_ten_rows": 1 / 1.15}


def measure_all() -> dict[str, Any]:
    """Every pair by name; services are started for it and stopped afterwards."""
    with tempfile.TemporaryDirectory(prefix="webhook-bench-") as directory:
        data_dir = Path(directory)
        runtime = local.start(data_dir)
        try:
            print("engine ...", file=sys.stderr)
            pairs = dict(engine.measure(runtime.bootstrap_servers))
            print("projector ...", file=sys.stderr)
            pairs |= projector.measure(runtime.bootstrap_servers, runtime.database_url)
            print("relay ...", file=sys.stderr)
            pairs |= relay.measure(runtime.bootstrap_servers, runtime.database_url)
            print("capture ...", file=sys.stderr)
            pairs |= capture.measure(runtime.database_url)
        finally:
            local.stop(data_dir)
    return pairs


def main() -> int:
    """Print the ratios; 1 where one of them is below what is wanted."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    arguments = parser.parse_args()
    pairs = measure_all()
    if arguments.json:
        print(json.dumps(pairs, indent=2))
    else:
        for name, figures in pairs.items():
            others = "  ".join(f"{key} {value:,.1f}" for key, value in figures.items() if key != "ratio")
            wanted = f"at least {WANTED[name]:.2f}" if name in WANTED else ""
            print(f"{name:16} ratio {figures['ratio']:.2f}  {wanted:14}  {others}")
    return int(any(pairs[name]["ratio"] < least for name, least in WANTED.items()))


if __name__ == "__main__":
    sys.exit(main())
