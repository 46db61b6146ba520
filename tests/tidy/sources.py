"""The project's own text files, and the little that the tidy tests ask of Python and SQL."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
SHIPPED: Final = ("ni", "api", "workers")
"""The packages that decide, serve and work; the rules about money and time are about them."""

TEXTS: Final = frozenset(
    {".py", ".sql", ".sh", ".md", ".toml", ".in", ".txt", ".csv", ".json", ".yml", ".yaml", ""}
)
_NOT_OURS: Final = frozenset({"build", "dist", "__pycache__"})
_OWN_HIDDEN: Final = frozenset({".ci", ".editorconfig", ".gitignore"})
_SQL_COMMENT: Final = re.compile(r"--[^\n]*")
_SQL_FUNCTION: Final = re.compile(
    r"^create (?:or replace )?function\s+(?P<name>[\w.]+).*?(?:^\$\$;|^as '[^']*';)",
    re.IGNORECASE | re.DOTALL | re.MULTILINE,
)


def _is_ours(name: str) -> bool:
    if name.startswith("."):
        return name in _OWN_HIDDEN
    return name not in _NOT_OURS and not name.endswith(".egg-info")


@cache
def files(folder: Path = ROOT) -> tuple[Path, ...]:
    """Every text file of the project; what tools and runs leave behind is not the project's."""
    found: list[Path] = []
    for entry in sorted(folder.iterdir()):
        if not _is_ours(entry.name):
            continue
        if entry.is_dir():
            found += files(entry)
        elif entry.suffix in TEXTS or entry.name in _OWN_HIDDEN:
            found.append(entry)
    return tuple(found)


def named(path: Path) -> str:
    """The path as the lists of exceptions and the messages write it."""
    return path.relative_to(ROOT).as_posix()


def of_kind(*suffixes: str, under: tuple[str, ...] = ()) -> list[Path]:
    """The files with these suffixes, in these top folders or everywhere."""
    return [
        path
        for path in files()
        if path.suffix in suffixes and (not under or path.relative_to(ROOT).parts[0] in under)
    ]


@cache
def text(path: Path) -> str:
    """What the file says."""
    return path.read_text(encoding="utf-8")


@cache
def tree(path: Path) -> ast.Module:
    """The syntax tree of a Python file."""
    return ast.parse(text(path), str(path))


def sql_without_comments(path: Path) -> str:
    """A SQL file with its comments blanked; lines keep their numbers."""
    return _SQL_COMMENT.sub("", text(path))


def sql_functions(path: Path) -> Iterator[tuple[str, int]]:
    """The functions that a SQL file creates, each with its number of lines."""
    for match in _SQL_FUNCTION.finditer(text(path)):
        yield match["name"], match[0].count("\n") + 1


def docstrings(path: Path) -> set[int]:
    """The ids of the nodes that are docstrings, or strings that stand for comments."""
    return {
        id(node.value)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
