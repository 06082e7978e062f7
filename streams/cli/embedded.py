"""The embedded installation: broker in this process, SQLite beside it, everything prepared that a first start needs."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pydantic import SecretStr
from sqlalchemy import Engine, func, select

from handlers.dwd.fake import FakeUpstream
from handlers.tenants.encryption import Keyring
from handlers.tenants.repository import SqlTenantRepository
from handlers.tenants.tables import TOKENS
from handlers.tenants.tokens import Scope, TokenRepository
from projections.migrate import upgrade
from streams.broker.embedded import EmbeddedBroker
from streams.broker.runtime import Runtime, embedded_database_url, read_runtime, remove_runtime, write_runtime
from streams.cli.composition import open_keyring
from streams.cli.pipeline import Pipeline, running_pipeline
from streams.cli.print_shop import SHOP_NAME, shop_configuration
from streams.database import create_database_engine
from streams.errors import SetupError
from streams.recovery import Recovery, recover
from streams.settings import Settings

TOKEN_FILE: Final = "token"  # noqa: S105 (a file's name)
"""Name of the file in the data directory that holds the first API token."""


@dataclass(frozen=True, slots=True)
class Installation:
    """A running embedded installation. ``token_file`` holds the API token made at the first start."""

    pipeline: Pipeline
    tenant_id: str | None
    token_file: Path
    recovery: Recovery


@asynccontextmanager
async def embedded_installation(settings: Settings, sample: bool) -> AsyncIterator[Installation]:
    """Run everything in this process until the block ends. ``sample``: with the print shop's tenant and its upstream.

    Raises ``SetupError`` where services run for this data directory already.
    """
    data_dir = settings.data_dir
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    _refuse_second(data_dir)
    url = embedded_database_url(data_dir)
    engine = create_database_engine(url)
    upgrade(engine)
    catalogue = settings.catalogue()
    with engine.begin() as connection:
        recovery = recover(connection, catalogue)
    with EmbeddedBroker(catalogue) as broker:
        # Everything runs on this host, so there is one clock.
        update = {"database_url": SecretStr(url), "clocks_apart_s": 0.0}
        settings = broker.settings(settings).model_copy(update=update)
        runtime = Runtime("embedded", broker.bootstrap_servers, url, None, os.getpid(), broker.epoch)
        write_runtime(data_dir, runtime)
        try:
            token_file = _first_token(engine, data_dir)
            async with (
                shop_upstream(settings, engine, sample) as (settings, tenant_id),
                running_pipeline(settings, engine, broker.epoch, embedded=True) as pipeline,
            ):
                write_runtime(data_dir, replace(runtime, http_url=pipeline.url))
                yield Installation(pipeline, tenant_id, token_file, recovery)
        finally:
            remove_runtime(data_dir)
            engine.dispose()


def _refuse_second(data_dir: Path) -> None:
    present = read_runtime(data_dir)
    if present is None:
        return
    stop = "`webhook local stop`" if present.mode == "local" else f"the `webhook up` of process {present.pid}"
    raise SetupError(
        f"Services run for the data directory {data_dir.resolve()} already.",
        f"Use them as they are, or end them first: {stop}.",
    )


@asynccontextmanager
async def shop_upstream(settings: Settings, engine: Engine, wanted: bool) -> AsyncIterator[tuple[Settings, str | None]]:
    """The sample tenant with its upstream on loopback, made at the first start and pointed there at every one."""
    if not wanted:
        yield settings, None
        return
    async with FakeUpstream() as upstream:
        tenant_id = prepare_shop(engine, open_keyring(settings), upstream.url)
        yield settings.model_copy(update={"outbound_allow": [*settings.outbound_allow, upstream.host]}), tenant_id


def prepare_shop(engine: Engine, keyring: Keyring, upstream_url: str) -> str:
    """Id of the sample tenant, which is made where it is missing and pointed at ``upstream_url``."""
    tenants = SqlTenantRepository(engine, keyring)
    configuration = shop_configuration(upstream_url)
    present = next((each.id for each in tenants.summaries() if each.name == SHOP_NAME), None)
    if present is None:
        return tenants.create(SHOP_NAME, configuration).id
    tenants.configure(present, configuration)
    return present


def _first_token(engine: Engine, data_dir: Path) -> Path:
    """The file of the first token, which is made with its token where there is no token at all (mode 0600)."""
    path = data_dir / TOKEN_FILE
    with engine.connect() as connection:
        present = connection.execute(select(func.count()).select_from(TOKENS)).scalar_one()
    if not present:
        issued = TokenRepository(engine).create("first", Scope.ADMIN)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(issued.text + "\n")
    return path
