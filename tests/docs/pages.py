"""What the documentation tests read of a page: its tables, headings and links."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
DOCS: Final = ROOT / "docs"
_FENCE: Final = re.compile(r"^(```+|~~~+).*?^\1\s*$", re.MULTILINE | re.DOTALL)
_HEADING: Final = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
_LINK: Final = re.compile(r"\[[^\[\]]+\]\(([^)\s]+)\)")
_SPLIT: Final = re.compile(r"(?<!\\)\|")


@cache
def page(name: str) -> str:
    """A page of docs/, by its path in there."""
    return (DOCS / name).read_text(encoding="utf-8")


def prose(text: str) -> str:
    """The text without its code blocks."""
    return _FENCE.sub("", text)


def section(text: str, heading: str) -> str:
    """What stands under a heading, up to the next one of its level or a higher one."""
    match = re.search(rf"^(#+) {re.escape(heading)}$", text, re.MULTILINE)
    assert match is not None, f"there is no heading {heading!r}"
    level = len(match[1])
    rest = text[match.end() :]
    following = re.search(rf"^#{{1,{level}}} ", rest, re.MULTILINE)
    return rest[: following.start()] if following else rest


def rows(text: str) -> list[list[str]]:
    """The cells of every table row, heads and rules left out, `code` without its ticks."""
    found: list[list[str]] = []
    lines = prose(text).splitlines()
    for number, line in enumerate(lines):
        if not line.startswith("|") or re.fullmatch(r"[|\s:-]+", line):
            continue
        if number + 1 < len(lines) and re.fullmatch(r"\|[|\s:-]+", lines[number + 1]):
            continue
        cells = (cell.strip() for cell in _SPLIT.split(line.strip().strip("|")))
        found.append([cell.replace("\\|", "|").replace("`", "") for cell in cells])
    return found


def headings(text: str) -> list[str]:
    """The headings of a page, without the ticks of `code`."""
    return [match[1].replace("`", "") for match in _HEADING.finditer(prose(text))]


def anchors(text: str) -> set[str]:
    """The names by which links reach the headings of a page."""
    words = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings(text))
    return {word.replace(" ", "-") for word in words}


def links(text: str) -> list[str]:
    """The targets of a page's links."""
    return _LINK.findall(prose(text))
