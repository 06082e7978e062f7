"""What commands about tenants and keys share: the system's database, and errors in words."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine

from handlers.tenants.configuration import ConfigurationError
from handlers.tenants.encryption import KeyringError
from handlers.tenants.repository import HostnameTaken, TenantNotFound, TenantsUnavailable, TenantUnusable
from streams.broker.runtime import resolve
from streams.database import opened_database
from streams.errors import SetupError
from streams.settings import Settings


@contextmanager
def tenant_database() -> Iterator[tuple[Engine, Settings]]:
    """The system's database at the right migration; Kafka is not needed."""
    settings = resolve(Settings(), kafka=False)
    with opened_database(settings, "system") as engine:
        yield engine, settings


@contextmanager
def told() -> Iterator[None]:
    """Turn what a user can get wrong into a message and an exit code."""
    try:
        yield
    except ConfigurationError as error:
        raise SetupError(
            str(error), "Correct these places; `webhook tenants check --config FILE` checks again.", 1
        ) from None
    except (HostnameTaken, TenantUnusable, TenantNotFound, KeyringError) as error:
        raise SetupError(str(error), exit_code=1) from None
    except TenantsUnavailable as error:
        raise SetupError(str(error), "Start the database, or give the keys it was encrypted with.") from error
