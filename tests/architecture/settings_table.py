"""The README's table of settings, made from the settings: ``python -m tests.architecture.settings_table``."""

from pathlib import Path

from pydantic import AliasChoices
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from streams.settings import Settings
from tests.architecture.source import ROOT

README = ROOT / "README.md"
BEGIN = "<!-- settings: made by `python -m tests.architecture.settings_table` -->"
END = "<!-- end of settings -->"


def _variables(name: str, field: FieldInfo) -> str:
    alias = field.validation_alias
    if alias is None:
        return f"`WEBHOOK_{name.upper()}`"
    names = alias.choices if isinstance(alias, AliasChoices) else [alias]
    return ", ".join(f"`{each}`" for each in names)


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is None or value is PydanticUndefined or value == []:
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value.as_posix() if isinstance(value, Path) else value}`"


def table() -> str:
    """One line for each setting: variable, default, meaning."""
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        lines.append(f"| {_variables(name, field)} | {_default(field)} | {field.description} |")
    return "\n".join(lines)


def renew() -> None:
    """Put the table into the README."""
    text = README.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}\n{table()}\n{END}{after}")


if __name__ == "__main__":
    renew()
