"""The runtime file and what commands make of it."""

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest
from pydantic import SecretStr

from streams.broker.embedded import FETCH_WAIT_MS, LINGER_MS
from streams.broker.runtime import (
    DATABASE_FILE,
    RUNTIME_FILE,
    Runtime,
    embedded_database_url,
    is_embedded,
    process_runs,
    read_runtime,
    remove_runtime,
    require_real_broker,
    resolve,
    write_runtime,
)
from streams.errors import SetupError
from streams.settings import Settings


def runtime(mode: Literal["embedded", "local"] = "embedded", pid: int = os.getpid()) -> Runtime:
    return Runtime(mode, "127.0.0.1:9", "sqlite:///x.db", None, pid, "epoch-1")


def ended_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_what_was_written_is_read_and_private(tmp_path: Path) -> None:
    write_runtime(tmp_path / "new", runtime())
    assert read_runtime(tmp_path / "new") == runtime()
    assert stat.S_IMODE((tmp_path / "new" / RUNTIME_FILE).stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "new").iterdir()] == [RUNTIME_FILE]
    remove_runtime(tmp_path / "new")
    assert read_runtime(tmp_path / "new") is None
    remove_runtime(tmp_path / "new")


def test_services_of_an_ended_process_do_not_run(settings: Settings) -> None:
    write_runtime(settings.data_dir, runtime(pid=ended_process()))
    assert read_runtime(settings.data_dir) is None
    assert not is_embedded(settings)
    with pytest.raises(SetupError, match=r"No Kafka broker runs .* `webhook up`"):
        resolve(settings)


def test_a_child_that_ended_does_not_run() -> None:
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", "input()"], os.environ)
    assert process_runs(pid)
    os.kill(pid, 9)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert not process_runs(pid)


@pytest.mark.parametrize("text", ["{", "[]", '{"mode": "embedded"}'])
def test_a_broken_file_is_named(settings: Settings, text: str) -> None:
    (settings.data_dir / RUNTIME_FILE).write_text(text)
    with pytest.raises(SetupError, match="Delete it"):
        read_runtime(settings.data_dir)


def test_settings_are_filled_from_embedded_services(settings: Settings) -> None:
    write_runtime(settings.data_dir, runtime())
    found = resolve(settings)
    assert (found.bootstrap_servers, found.fetch_wait_ms) == ("127.0.0.1:9", FETCH_WAIT_MS)
    assert found.linger_ms == LINGER_MS
    assert found.database_url == SecretStr("sqlite:///x.db")
    assert is_embedded(found)
    with pytest.raises(SetupError, match="webhook local start"):
        require_real_broker(found, "webhook work")


def test_local_services_keep_the_waits_of_a_real_broker(settings: Settings) -> None:
    write_runtime(settings.data_dir, runtime("local", pid=0))
    assert resolve(settings).fetch_wait_ms == settings.fetch_wait_ms
    require_real_broker(settings, "webhook work")


def test_what_the_settings_name_stays(settings: Settings) -> None:
    write_runtime(settings.data_dir, runtime())
    named = settings.model_copy(update={"bootstrap_servers": "kafka:9092", "database_url": SecretStr("sqlite:///y.db")})
    assert resolve(named) == named
    assert not is_embedded(named)


def test_the_embedded_database_is_found_while_nothing_runs(settings: Settings) -> None:
    with pytest.raises(SetupError, match="No database runs"):
        resolve(settings, kafka=False)
    (settings.data_dir / DATABASE_FILE).touch()
    found = resolve(settings, kafka=False)
    assert found.database_url == SecretStr(embedded_database_url(settings.data_dir))
    assert found.bootstrap_servers is None
