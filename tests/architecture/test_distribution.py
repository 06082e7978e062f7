"""What is installed is what stands here, whole, and nobody else's packages have our names."""

import tomllib
from importlib.metadata import packages_distributions
from pathlib import PurePosixPath

import pytest

from tests.architecture.source import PACKAGES, ROOT, name, tracked

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.mark.parametrize("package", PACKAGES)
def test_the_package_comes_from_this_distribution_alone(package: str) -> None:
    assert set(packages_distributions()[package]) == {"webhook-streams"}


def test_declared_packages_are_the_five() -> None:
    assert PROJECT["tool"]["setuptools"]["packages"]["find"]["include"] == [f"{package}*" for package in PACKAGES]
    assert PROJECT["tool"]["mypy"]["packages"] == [*PACKAGES, "tests"]
    assert PROJECT["tool"]["importlinter"]["root_packages"] == list(PACKAGES)


def test_every_data_file_is_declared() -> None:
    declared = PROJECT["tool"]["setuptools"]["package-data"]
    for path in tracked():
        package, *rest = path.relative_to(ROOT).parts
        if package not in PACKAGES or path.suffix == ".py" or path.name == "README.md":
            continue
        patterns = declared.get(package, [])
        assert any(PurePosixPath(*rest).match(pattern) for pattern in patterns), f"{name(path)} is not in package-data"


def test_every_dependency_says_why() -> None:
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    begin, end = lines.index("dependencies = ["), lines.index("[project.scripts]")
    entries = [line for line in lines[begin + 1 : end] if line.startswith("    ")]
    assert len(entries) > 20
    assert [line for line in entries if "#" not in line] == []


def test_the_lock_is_hashed_and_holds_every_dependency() -> None:
    text = (ROOT / "requirements.lock").read_text()
    locked = {line.split("==")[0] for line in text.splitlines() if "==" in line}
    extras = PROJECT["project"]["optional-dependencies"].values()
    wanted = [*PROJECT["project"]["dependencies"], *(each for extra in extras for each in extra)]
    wanted += PROJECT["build-system"]["requires"]
    names = {each.split(">=")[0].split("[")[0].lower().replace("_", "-") for each in wanted}
    assert names <= locked
    assert all("--hash=sha256:" in block for block in text.split("\n") if block.startswith("    "))
