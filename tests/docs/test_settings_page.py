"""docs/reference/settings.md lists every setting as the code has it."""

from __future__ import annotations

import re
from typing import Any, Final

import pytest
from annotated_types import Ge, Le

from ni.settings import Settings
from tests.docs.pages import DOCS, page, rows

UNITS: Final = {
    "_per_s": "a second",
    "_ms": "ms",
    "_s": "s",
    "_days": "days",
    "_bytes": "bytes",
    "_mib": "MiB",
}


def unit(name: str) -> str:
    """The unit that ends a setting's name; none for counts, texts and switches."""
    return next((unit for ending, unit in UNITS.items() if name.endswith(ending)), "")


def written(value: Any) -> str:
    """A default as the environment has it."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) or "empty"


def bounds(name: str) -> str:
    """What values are allowed, where there is a bound."""
    low = high = None
    for rule in Settings.model_fields[name].metadata:
        if isinstance(rule, Ge):
            low = rule.ge
        if isinstance(rule, Le):
            high = rule.le
    if low is None:
        return ""
    return f"{low:,} or more" if high is None else f"{low:,} to {high:,}"


def expected() -> dict[str, list[str]]:
    """The row of each setting: name, default, unit, allowed."""
    return {
        f"NI_{name.upper()}": [written(field.default), unit(name), bounds(name)]
        for name, field in Settings.model_fields.items()
    }


def test_every_setting_is_listed_with_default_unit_and_bounds() -> None:
    listed = {row[0]: row[1:4] for row in rows(page("reference/settings.md"))}
    assert listed == expected()


def test_no_setting_is_listed_twice_and_each_has_a_meaning() -> None:
    found = rows(page("reference/settings.md"))
    assert len({row[0] for row in found}) == len(found)
    assert all(len(row[4].split()) > 1 for row in found)


@pytest.mark.parametrize("folder", ["how-to", "explanation", "reference"])
def test_no_page_names_a_setting_that_does_not_exist(folder: str) -> None:
    elsewhere = {"NI_KEY", "NI_OPERATOR_KEY", "NI_TORTURE"}
    known = expected().keys() | elsewhere
    for path in (DOCS / folder).glob("*.md"):
        named = set(re.findall(r"\bNI_[A-Z_]+[A-Z]\b", path.read_text(encoding="utf-8")))
        assert named <= known, path.name
