"""Sources: found by their token, secrets encrypted, two of them during a rotation."""

import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, insert, select, update

from handlers.inbound.schemes import HmacLayout, Scheme
from handlers.tenants.encryption import Keyring
from handlers.tenants.inbound_sources import NewSource, SourceNotFound, SourceRepository
from handlers.tenants.key_file import open_key_file
from handlers.tenants.repository import TenantNotFound, TenantsUnavailable
from handlers.tenants.tables import INBOUND_SOURCES, WEBSITES

KEYRING = Keyring({"k1": bytes(32)})
FIRST, SECOND, THIRD = (f"the secret that is the {name} one" for name in ("first", "second", "third"))


@pytest.fixture
def sources(database: Engine) -> SourceRepository:
    with database.begin() as connection:
        connection.execute(insert(WEBSITES), [{"uuid": str(each), "name": "x"} for each in range(2)])
    return SourceRepository(database, KEYRING)


def new(**values: object) -> NewSource:
    given: dict[str, object] = {
        "name": "github",
        "tenant_id": "1",
        "route": "webhook/order",
        "scheme": Scheme.GITHUB,
        "secret": FIRST,
    }
    return NewSource(**given | values)  # type: ignore[arg-type]


def opened(sources: SourceRepository, token: str) -> tuple[str, ...]:
    found = sources.find(token)
    assert found is not None
    return found.secrets


def test_a_source_is_found_by_its_token_alone(sources: SourceRepository) -> None:
    layout = HmacLayout(id_header="X-Id", encoding="base64")
    issued = sources.create(new(scheme=Scheme.HMAC, layout=layout, tolerance_s=60))
    other = sources.create(new(tenant_id="2"))
    found = sources.find(issued.token)
    assert found is not None
    assert found.source == issued.source == sources.get(issued.source.id)
    assert (found.source.layout, found.source.tolerance_s, found.secrets) == (layout, 60, (FIRST,))
    for wrong in ("", "x" * 5000, issued.token[:-1], issued.token + "x", issued.source.token_prefix, "\udcff"):
        assert sources.find(wrong) is None
    assert [each.id for each in sources.all()] == [issued.source.id, other.source.id]
    assert sources.all("2") == [other.source]
    assert sources.all("x") == []


def test_neither_token_nor_secret_is_stored_or_shown(sources: SourceRepository, database: Engine) -> None:
    issued = sources.create(new())
    with database.connect() as connection:
        row = str(connection.execute(select(INBOUND_SOURCES)).one())
    for text in (row, repr(issued), repr(sources.find(issued.token)), repr(new())):
        assert FIRST not in text
        assert issued.token not in text


def test_two_secrets_count_while_a_rotation_lasts(sources: SourceRepository, database: Engine) -> None:
    issued = sources.create(new())
    number = issued.source.id
    rotated = sources.rotate(number, SECOND, timedelta(hours=1))
    assert opened(sources, issued.token) == (SECOND, FIRST)
    assert rotated.rotated_at is not None
    sources.rotate(number, THIRD, timedelta(hours=1))
    assert opened(sources, issued.token) == (THIRD, SECOND)
    with database.begin() as connection:
        connection.execute(update(INBOUND_SOURCES).values(former_until=datetime.now(UTC) - timedelta(seconds=1)))
    assert opened(sources, issued.token) == (THIRD,)
    sources.rotate(number, FIRST, timedelta(0))
    assert opened(sources, issued.token) == (FIRST,)
    for bad in (timedelta(days=8), timedelta(seconds=-1)):
        with pytest.raises(ValueError, match="7 days"):
            sources.rotate(number, SECOND, bad)
    with pytest.raises(ValueError, match="characters"):
        sources.rotate(number, "short", timedelta(0))
    with pytest.raises(SourceNotFound, match="no source 99"):
        sources.rotate(99, SECOND, timedelta(0))
    assert opened(sources, issued.token) == (FIRST,)


def test_a_source_without_signatures_has_no_secret(sources: SourceRepository) -> None:
    issued = sources.create(new(scheme=Scheme.TOKEN, secret=None))
    assert opened(sources, issued.token) == ()
    with pytest.raises(ValueError, match="no secret"):
        sources.rotate(issued.source.id, SECOND, timedelta(0))
    with pytest.raises(ValueError, match="characters"):
        sources.create(new(secret=None))


def test_with_its_tenant_a_source_goes(sources: SourceRepository, database: Engine) -> None:
    issued = sources.create(new())
    with database.begin() as connection:
        connection.execute(update(WEBSITES).where(WEBSITES.c.id == 1).values(deleted_at=datetime.now(UTC)))
    assert sources.find(issued.token) is None
    for missing in ("1", "99", "x"):
        with pytest.raises(TenantNotFound):
            sources.create(new(tenant_id=missing))


def test_what_is_removed_is_gone_and_its_number_is_not_given_again(sources: SourceRepository) -> None:
    issued = sources.create(new())
    assert sources.remove(issued.source.id) == issued.source
    assert sources.find(issued.token) is None
    for gone in (sources.remove, sources.get):
        with pytest.raises(SourceNotFound):
            gone(issued.source.id)
    assert sources.create(new()).source.id > issued.source.id


def test_a_secret_moved_to_another_source_does_not_decrypt(sources: SourceRepository, database: Engine) -> None:
    first, second = sources.create(new()), sources.create(new(secret=SECOND))
    with database.begin() as connection:
        stolen = connection.execute(
            select(INBOUND_SOURCES.c.secret).where(INBOUND_SOURCES.c.id == first.source.id)
        ).scalar_one()
        connection.execute(
            update(INBOUND_SOURCES).where(INBOUND_SOURCES.c.id == second.source.id).values(secret=stolen)
        )
    with pytest.raises(TenantsUnavailable, match="does not decrypt"):
        sources.find(second.token)


class Counting(Keyring):
    """Counts what it decrypts."""

    decrypted = 0

    def decrypt(self, value: str, tenant_id: str, column: str) -> str:
        self.decrypted += 1
        return super().decrypt(value, tenant_id, column)


def test_for_an_unknown_token_as_much_is_decrypted(sources: SourceRepository, database: Engine) -> None:
    issued = sources.create(new())
    counting = Counting({"k1": bytes(32)})
    repository = SourceRepository(database, counting)
    assert repository.find("whi_unknown") is None
    assert counting.decrypted == 1
    assert repository.find(issued.token) is not None
    assert counting.decrypted == 2


def test_an_unknown_token_is_unknown_also_after_the_keys_have_changed(
    sources: SourceRepository, database: Engine, tmp_path: Path
) -> None:
    path = tmp_path / "keys"
    open_key_file(path)
    repository = SourceRepository(database, Keyring.read(path))
    path.write_text(f"k2:{base64.b64encode(bytes(32)).decode()}")
    assert repository.find("whi_unknown") is None
    assert repository.find("whi_unknown") is None
