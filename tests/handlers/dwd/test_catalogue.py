import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from handlers.dwd import fake as dwd_fake
from handlers.dwd.catalogue import CatalogueWebhookHandler
from handlers.dwd.fake import FakeUpstream
from handlers.results import Completed, Rejected
from schemas.errors import Permanent, Retryable
from tests.handlers.dwd.conftest import MakeContext


def lines(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path) as file:
        return [json.loads(line) for line in file]


async def copied(context: MakeContext, files_dir: Path, **payload: Any) -> dict[str, Any]:
    result = await CatalogueWebhookHandler().handle(payload, replace(context(), files_dir=files_dir))
    assert isinstance(result, Completed)
    return result.result


async def test_each_category_is_a_file_that_stays_until_the_category_changes(
    fake: FakeUpstream, context: MakeContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.behaviour.combinations_bytes = 1024 * 1024
    first = await copied(context, tmp_path)
    flyers, posters = first["categories"]
    assert (flyers["sku"], posters["sku"], first["count"]) == ("7f0e64a2-flyers", "91b2d6c8-posters", 2)
    head, *combinations = lines(tmp_path / flyers["path"])
    assert head["attributes"]["format"] == ["A4", "A5", "A6"]
    assert len(combinations) == flyers["rows"] > 3_000
    assert combinations[-1]["product"]["prices"][0]["quantity"] == 250
    assert flyers["path"].startswith("catalogues/1/")

    again = await copied(context, tmp_path)
    assert [each["rows"] for each in again["categories"]] == [None, None]
    changed = [dwd_fake._CATEGORIES[0] | {"combinationsModifiedAt": "2026-02-01T00:00:00Z"}, dwd_fake._CATEGORIES[1]]
    monkeypatch.setattr(dwd_fake, "_CATEGORIES", changed)
    later = await copied(context, tmp_path)
    assert [each["rows"] for each in later["categories"]] == [flyers["rows"], None]
    assert sorted(path.name for path in (tmp_path / "catalogues/1").iterdir()) == sorted(
        Path(each["path"]).name for each in later["categories"]
    )


async def test_an_attempt_goes_on_where_the_one_before_ended(
    fake: FakeUpstream, context: MakeContext, tmp_path: Path
) -> None:
    fake.behaviour.faults = ["none"] * 4 + ["lost"]
    with pytest.raises(Retryable):
        await copied(context, tmp_path)
    assert len(list((tmp_path / "catalogues/1").iterdir())) == 1
    result = await copied(context, tmp_path)
    assert [each["rows"] for each in result["categories"]] == [None, 2]


async def test_some_categories_only(fake: FakeUpstream, context: MakeContext, tmp_path: Path) -> None:
    result = await copied(context, tmp_path, skus=["91b2d6c8-posters", "none"])
    assert [each["sku"] for each in result["categories"]] == ["91b2d6c8-posters"]
    assert result["missing"] == ["none"]
    wrong = await CatalogueWebhookHandler().handle({"skus": "all"}, replace(context(), files_dir=tmp_path))
    assert isinstance(wrong, Rejected)
    with pytest.raises(Permanent, match="no directory for files"):
        await CatalogueWebhookHandler().handle({}, context())
