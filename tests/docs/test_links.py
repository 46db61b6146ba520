"""Every link of every page leads somewhere, and every page can be reached from the README."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.docs.pages import DOCS, ROOT, anchors, links

PAGES: Final = sorted((*ROOT.glob("*.md"), *DOCS.rglob("*.md")))
OUTSIDE: Final = ("https://", "http://", "mailto:")


def targets(page: Path) -> list[tuple[str, Path, str]]:
    """The links of a page that stay inside the project: as written, file, anchor."""
    found = []
    for link in links(page.read_text(encoding="utf-8")):
        if not link.startswith(OUTSIDE):
            file, _, anchor = link.partition("#")
            found.append((link, (page.parent / file).resolve() if file else page, anchor))
    return found


def broken(page: Path) -> list[str]:
    """The links of a page that lead nowhere."""
    found = []
    for link, file, anchor in targets(page):
        is_there = file.is_relative_to(ROOT) and file.exists()
        if not is_there or (anchor and anchor not in anchors(file.read_text(encoding="utf-8"))):
            found.append(link)
    return found


def test_links_lead_somewhere() -> None:
    found = {page.relative_to(ROOT).as_posix(): broken(page) for page in PAGES}
    assert {page: wrong for page, wrong in found.items() if wrong} == {}


def test_every_page_is_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached:
            continue
        reached.add(page)
        waiting += [file for _, file, _ in targets(page) if file.suffix == ".md"]
    assert [page for page in PAGES if page not in reached] == []
