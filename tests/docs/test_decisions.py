"""Decision records are numbered without gaps, listed, and have the same parts."""

from __future__ import annotations

import re
from typing import Final

from tests.docs.pages import DOCS, headings, rows

FOLDER: Final = DOCS / "decisions"
RECORDS: Final = sorted(FOLDER.glob("[0-9]*.md"))


def test_records_are_numbered_without_gaps() -> None:
    assert [int(path.name[:4]) for path in RECORDS] == list(range(1, len(RECORDS) + 1))


def test_records_have_the_same_parts() -> None:
    for path in RECORDS:
        text = path.read_text(encoding="utf-8")
        title, *parts = headings(text)
        assert title.startswith(f"{path.name[:4]}: "), path.name
        assert parts == ["Context", "Decision", "Consequences"], path.name
        assert re.search(r"^\d{4}-\d\d-\d\d, (accepted|replaced by \d{4})\.$", text, re.MULTILINE)


def test_records_are_listed() -> None:
    listed = [
        [row[0].partition("]")[0].strip("["), row[1]]
        for row in rows((FOLDER / "README.md").read_text(encoding="utf-8"))
    ]
    titles = [headings(path.read_text(encoding="utf-8"))[0].split(": ", 1) for path in RECORDS]
    assert listed == titles


def test_the_changelog_has_its_groups() -> None:
    text = (DOCS.parent / "CHANGELOG.md").read_text(encoding="utf-8")
    groups = re.findall(r"^### (.+)$", text, re.MULTILINE)
    assert groups
    assert set(groups) <= {"Safety and performance", "Features", "Internals"}
