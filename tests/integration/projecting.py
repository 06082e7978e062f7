"""A projector as a process of its own, for tests that kill it: settings from the environment, epoch as argument."""

import sys
from threading import Event

from streams.database import create_database_engine
from streams.projector import Projector
from streams.settings import Settings


def main() -> None:
    """Project until killed."""
    settings = Settings()
    if settings.database_url is None:
        raise SystemExit("WEBHOOK_DATABASE_URL is not set")
    engine = create_database_engine(settings.database_url.get_secret_value())
    Projector(settings, settings.catalogue(), engine, sys.argv[1]).run(Event())


if __name__ == "__main__":
    main()
