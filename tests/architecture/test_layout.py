"""The house: what may stand where."""

from pathlib import Path

import pytest

from tests.architecture.source import PACKAGES, ROOT, modules, name, tracked

TOP_LEVEL = {
    "pyproject.toml",
    "requirements.lock",
    "README.md",
    "CHANGELOG.md",
    "LICENSE",
    "Makefile",
    "infra",
    "tests",
    *PACKAGES,
}
VAGUE = {
    "utils",
    "util",
    "helpers",
    "helper",
    "common",
    "misc",
    "manager",
    "managers",
    "base",
    "tools",
    "tasks",
    "core",
}


def test_top_level_is_fixed() -> None:
    shown = {path.relative_to(ROOT).parts[0] for path in tracked()}
    assert {each for each in shown if not each.startswith(".")} <= TOP_LEVEL


def test_infra_holds_deployment_files_only() -> None:
    infra = [path.relative_to(ROOT) for path in tracked() if path.relative_to(ROOT).parts[0] == "infra"]
    assert {path.parts[1] for path in infra} <= {"kafka"}
    assert [path for path in infra if path.suffix == ".py"] == []


@pytest.mark.parametrize("package", [*PACKAGES, "tests"])
def test_every_room_says_what_it_is_for(package: str) -> None:
    assert (ROOT / package / "README.md").is_file()


def test_names_say_what_is_inside() -> None:
    vague = [
        name(path) for path in modules(*PACKAGES, "tests") if VAGUE & {*path.relative_to(ROOT).with_suffix("").parts}
    ]
    # A plugin's manager is the original product's own word for it.
    assert [each for each in vague if not (each.startswith("handlers/") and each.endswith("/manager.py"))] == []


@pytest.mark.parametrize("path", modules(*PACKAGES), ids=name)
def test_every_module_says_what_it_is(path: Path) -> None:
    text = path.read_text()
    assert text == "" or text.lstrip().startswith(('"""', 'r"""')), "begin the module with a docstring"


def test_packages_are_packages() -> None:
    without = {path.parent for path in modules(*PACKAGES, "tests") if not (path.parent / "__init__.py").exists()}
    assert without == set()


def test_tests_mirror_the_tree() -> None:
    for path in modules("tests"):
        parts = path.relative_to(ROOT).parts
        if len(parts) > 2 and parts[1] in PACKAGES and path.name.startswith("test_"):
            room = ROOT.joinpath(*parts[1:-1])
            assert room.is_dir(), f"{name(path)} tests a room that does not exist"
