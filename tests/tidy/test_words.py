"""The project speaks of itself alone, in English, and says why where it departs from a rule."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from ni.migrate import read_functions, read_numbered
from tests.tidy.sources import ROOT, files, named, of_kind, text

SILENCED: Final = re.compile(r"#\s*(?:type:\s*ignore|noqa)(?P<rest>.*)", re.IGNORECASE)
_CODES: Final = re.compile(r"^(\[[\w, -]+\]|:\s*[A-Z]+\d+(,\s*[A-Z]+\d+)*)")
UNFINISHED: Final = re.compile(r"\b(" + "TO" + "DO|FIX" + "ME" + r")\b")
OUTSIDE: Final = re.compile(r"/work\b|\.\./shared\b|issues? #?\d+\b|\bhelper session\b")
MAY_NAME_OUTSIDE: Final = ("tests/", ".ci/", "CONTRIBUTING.md")
LETTERS: Final = frozenset("µ")
FOREIGN_LETTERS_UNDER: Final = ("tests/", "ni/sms/ja.json", "ni/sms/ru.json")
"""Tests send names and hostile text of every script; customers are told in their languages."""

OURS: Final = [path for path in files() if not path.name.startswith("requirements")]


def silenced_without_reason(line: str) -> bool:
    """Whether a line switches a check off without naming the check and the reason."""
    match = SILENCED.search(line)
    if match is None:
        return False
    codes = _CODES.match(match["rest"])
    reason = match["rest"][codes.end() :].strip(" #-") if codes else ""
    return len(reason.split()) < 2


def test_what_is_silenced_says_why() -> None:
    found = [
        f"{named(path)}:{number}"
        for path in of_kind(".py")
        if path != Path(__file__)
        for number, line in enumerate(text(path).splitlines(), start=1)
        if silenced_without_reason(line)
    ]
    assert found == []


def test_silenced_is_seen() -> None:
    mark = "noqa"
    assert silenced_without_reason(f"x = 1  # {mark}")
    assert silenced_without_reason(f"x = 1  # {mark}: S608")
    assert not silenced_without_reason(f"x = 1  # {mark}: S608  the text is a constant")
    assert silenced_without_reason("x = 1  # type: ignore[misc]")


def test_nothing_is_left_unfinished() -> None:
    assert [named(path) for path in OURS if UNFINISHED.search(text(path))] == []


def test_the_project_speaks_of_itself() -> None:
    found = [
        f"{named(path)}: {match[0]}"
        for path in OURS
        if not named(path).startswith(MAY_NAME_OUTSIDE)
        for match in OUTSIDE.finditer(text(path))
    ]
    assert found == []


def test_english_letters() -> None:
    found = {}
    for path in OURS:
        letters = {char for char in text(path) if not char.isascii() and char.isalpha()} - LETTERS
        if letters and not named(path).startswith(FOREIGN_LETTERS_UNDER):
            found[named(path)] = letters
    assert found == {}


def test_text_files_are_plain() -> None:
    """Unix line ends, spaces, a last line end, nothing invisible at the end of a line."""
    found = []
    for path in OURS:
        content = text(path)
        tabs = "\t" in content and path.name != "Makefile"
        ragged = any(line != line.rstrip() for line in content.split("\n"))
        if tabs or ragged or "\r" in content or (content and not content.endswith("\n")):
            found.append(named(path))
    assert found == []


def test_migrations_are_numbered_without_gaps() -> None:
    numbered = read_numbered(ROOT / "migrations")
    assert [int(one.name[:4]) for one in numbered] == list(range(1, len(numbered) + 1))
    assert read_functions(ROOT / "migrations")


def test_tests_that_read_shared_data_say_when_it_is_absent() -> None:
    """A test with data from beside the project is skipped with a reason, never silently passed."""
    for path in of_kind(".py", under=("tests",)):
        reads = re.search(r"""["/]shared["/]""", text(path))
        if reads and path != Path(__file__):
            assert re.search(r"skip(if)?\(", text(path)), named(path)
            assert "reason=" in text(path) or "pytest.skip(" in text(path), named(path)
