"""A relay as a process of its own, for tests that kill it: settings, database URL and proof timeout as JSON in argv."""

import json
import signal
import sys
import threading

from streams.capture.relay import Relay, RelayOptions
from streams.database import create_database_engine
from streams.settings import Settings


def main() -> None:
    """Run until SIGTERM."""
    arguments = json.loads(sys.argv[1])
    settings = Settings.model_validate(arguments["settings"])
    engine = create_database_engine(arguments["database_url"])
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    options = RelayOptions(proof_timeout_s=arguments["proof_timeout_s"])
    Relay(settings, settings.catalogue(), [engine], engine, options).run(stop)


if __name__ == "__main__":
    main()
