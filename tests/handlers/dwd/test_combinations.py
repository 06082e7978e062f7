"""Lists of combinations: whole, broken, and far larger than what may stay in memory."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from handlers.dwd.combinations import objects_of
from handlers.dwd.fake import FakeUpstream
from handlers.dwd.manager import DwdPluginManager
from schemas.errors import Permanent, Retryable
from tests.handlers.dwd.conftest import MakeContext

MEBIBYTES: Final = int(os.environ.get("VENDOR_COMBINATIONS_MIB", "24"))
"""Size of the large list; the real ones may exceed 100."""

READER: Final = """
import asyncio, re, sys
from handlers.dwd.manager import DwdPluginManager
from handlers.outbound import GuardedClient

async def main():
    async with GuardedClient(["127.0.0.1"]) as client:
        manager = DwdPluginManager("1", {"auth": {"url": sys.argv[1], "client_id": "a", "secret": "b"}}, client)
        count = 0
        async for combination in manager.get_combinations("7f0e64a2-flyers"):
            count += len(combination["product"]["prices"])
        # Not getrusage: its peak is that of the process that started this one, where that was larger.
        print(count, re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])

asyncio.run(main())
"""


async def pieces(text: str, size: int) -> AsyncIterator[bytes]:
    data = text.encode()
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_objects_come_whole_however_the_text_is_cut(size: int) -> None:
    objects = [{"n": number, "price": 1.5, "text": "é]}{"} for number in range(20)]
    assert [each async for each in objects_of(pieces(json.dumps(objects), size))] == objects
    assert [each async for each in objects_of(pieces("[]", size))] == []


@pytest.mark.parametrize("text", ['[{"a": 1}, {"a"', "<html>", "", '[{"a": 1}'])
async def test_a_list_that_breaks_off_is_retried(text: str) -> None:
    with pytest.raises(Retryable) as caught:
        _ = [each async for each in objects_of(pieces(text, 4))]
    assert caught.value.code == "bad_answer"


async def test_combinations_and_attributes_of_a_product(fake: FakeUpstream, context: MakeContext) -> None:
    made = context(sku_map={"FLYER": "7f0e64a2-flyers"})
    manager = DwdPluginManager("1", made.config, made.http)
    found = [each async for each in manager.get_combinations("FLYER")]
    assert len(found) == 2
    assert found[0]["product"]["prices"][1] == {"quantity": 500, "price": 32.45, "information": {"deliveryDays": 4}}
    assert (await manager.get_attributes("FLYER"))["format"] == ["A4", "A5", "A6"]
    fake.behaviour.secret = "other"
    with pytest.raises(Permanent, match=r"auth\.secret"):
        _ = [each async for each in manager.get_combinations("FLYER")]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")
async def test_a_large_list_stays_out_of_memory(fake: FakeUpstream) -> None:
    fake.behaviour.combinations_bytes = MEBIBYTES * 1024 * 1024
    reading = await _read(fake.url)
    prices, peak_kib = map(int, reading.split())
    assert prices > MEBIBYTES * 8_000
    # An empty list takes 46 MiB: what comes of the list is less than its own size.
    assert peak_kib < 64 * 1024


async def _read(url: str) -> str:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", READER, url, stdout=subprocess.PIPE)
    output, _ = await process.communicate()
    return output.decode()
