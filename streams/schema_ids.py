"""Which schema ids this process writes and reads: the shipped ones, or those of the registry that the settings name."""

from schemas.codec import use_ids
from schemas.registry import RegistryError, ids_from_registry
from streams.errors import SetupError
from streams.settings import Settings


def adopt_registry_ids(settings: Settings) -> None:
    """Take the ids of ``SCHEMA_REGISTRY_URL``, if it is set; call it once, before the first record.

    Every process that writes to one installation's topics or outbox needs the same setting, upstream services included.
    Raises ``SetupError`` where the registry cannot be reached or refuses a schema.
    """
    if settings.schema_registry_url is None:
        return
    subjects = {spec.subject: spec.record for spec in settings.catalogue().specs.values()}
    try:
        use_ids(ids_from_registry(settings.schema_registry_url, subjects))
    except RegistryError as error:
        raise SetupError(
            f"The schema ids could not be read: {error}.",
            "Start the registry or correct SCHEMA_REGISTRY_URL; unset it to use the ids shipped with the package.",
        ) from error
