"""An embedded installation in processes of its own, with a directory beside it that packages can be put into."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine

from streams.broker.runtime import embedded_database_url, read_runtime
from streams.database import create_database_engine
from tests.support.waiting import eventually

WEBHOOK = Path(sys.executable).with_name("webhook")


class House:
    """The installation. ``command`` is what is run as ``webhook``."""

    def __init__(self, place: Path, command: Sequence[str | Path] = (WEBHOOK,)) -> None:
        self.command = list(command)
        self.data_dir = place / "data"
        self.beside = place / "beside"
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(self.beside), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
            "WEBHOOK_DATA_DIR": str(self.data_dir),
            "WEBHOOK_HTTP_PORT": "0",
            "WEBHOOK_OUTBOUND_ALLOW": "127.0.0.1",
        }
        self.data_dir.mkdir()

    def webhook(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*self.command, *arguments], env=self.environment, capture_output=True, text=True, timeout=120, check=False
        )

    def install(self, wheel: Path) -> None:
        pip(["install", "--no-deps", "--no-index", "--target", str(self.beside), str(wheel)])

    def remove(self) -> None:
        shutil.rmtree(self.beside)

    @contextmanager
    def up(self, kill: bool = False) -> Iterator[Engine]:
        """The house while it runs, with an engine for its database; ``kill``: it ends by kill -9."""
        with (self.data_dir / "up.log").open("a") as log:
            process = subprocess.Popen(
                [*self.command, "up", "--no-sample"], env=self.environment, stdout=log, stderr=log
            )
        engine = create_database_engine(embedded_database_url(self.data_dir))
        try:
            eventually(lambda: self._listens(process), timeout_s=60)
            yield engine
        finally:
            engine.dispose()
            if not kill:
                process.terminate()
            try:
                process.wait(0 if kill else 60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _listens(self, process: "subprocess.Popen[bytes]") -> bool:
        assert process.poll() is None, (self.data_dir / "up.log").read_text()
        runtime = read_runtime(self.data_dir)
        return runtime is not None and runtime.pid == process.pid and runtime.http_url is not None


def pip(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
