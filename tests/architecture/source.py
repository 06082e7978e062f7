"""The project's files as the architecture tests look at them."""

import ast
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("streams", "topics", "schemas", "projections", "handlers")


@cache
def tracked() -> tuple[Path, ...]:
    """Every file of the repository that is or would be tracked; every file below the root where there is no git."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode == 0:
        return tuple(sorted(ROOT / line for line in listing.stdout.splitlines() if (ROOT / line).is_file()))
    hidden = {".venv", ".git", "build", "dist", "__pycache__", ".webhook"}
    return tuple(path for path in sorted(ROOT.rglob("*")) if path.is_file() and not hidden & set(path.parts))


def modules(*packages: str) -> list[Path]:
    """Python files below the given top-level directories."""
    return [path for path in tracked() if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in packages]


def name(path: Path) -> str:
    """The path as it is written in the repository."""
    return path.relative_to(ROOT).as_posix()


def parse(path: Path) -> ast.Module:
    """Syntax tree of a module."""
    return ast.parse(path.read_text(), filename=str(path))
