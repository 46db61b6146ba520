"""A Python function has at most 40 lines, a SQL function 70, a file 400; a line 100 characters.

What is larger stands in a list with its size. The lists may only shrink: a test fails as well when
something in them has become smaller than it says.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Final

from tests.tidy.sources import named, of_kind, sql_functions, text, tree

FUNCTION_LINES: Final = 40
SQL_FUNCTION_LINES: Final = 70
FILE_LINES: Final = 400
LINE_CHARACTERS: Final = 100
CODE: Final = (".py", ".sql", ".sh")

_CREATED: Final = re.compile(r"^CREATE (?:OR REPLACE )?FUNCTION\b", re.MULTILINE)

LONG_FUNCTIONS: Final = {
    # One record or command written out, a line a field.
    "ni/hold_rules.py _captured_posting": 41,
    "ni/posting_rules.py create": 43,
    "api/holds.py hold_command": 43,
    "api/postings.py posting_command": 48,
}
LONG_SQL_FUNCTIONS: Final[dict[str, int]] = {}
LONG_FILES: Final[dict[str, int]] = {}
LONG_LINES: Final[dict[str, int]] = {}
"""Path → how many of its lines are longer."""


def long_python_functions(path: Path) -> dict[str, int]:
    """The functions of a file that have more than FUNCTION_LINES lines, decorators left out."""
    found = {}
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES:
                found[f"{named(path)} {node.name}"] = lines
    return found


def test_python_functions() -> None:
    found: dict[str, int] = {}
    for path in of_kind(".py"):
        found |= long_python_functions(path)
    assert found == LONG_FUNCTIONS


def test_sql_functions() -> None:
    found = {
        f"{named(path)} {name}": lines
        for path in of_kind(".sql")
        for name, lines in sql_functions(path)
        if lines > SQL_FUNCTION_LINES
    }
    assert found == LONG_SQL_FUNCTIONS


def test_sql_functions_are_seen() -> None:
    migrations = of_kind(".sql", under=("migrations",))
    created = sum(len(_CREATED.findall(text(path))) for path in migrations)
    assert created == sum(len(list(sql_functions(path))) for path in migrations)


def test_files() -> None:
    lines = {named(path): len(text(path).splitlines()) for path in of_kind(*CODE)}
    assert {name: many for name, many in lines.items() if many > FILE_LINES} == LONG_FILES


def test_lines() -> None:
    found = {}
    for path in of_kind(*CODE):
        many = sum(len(line) > LINE_CHARACTERS for line in text(path).splitlines())
        if many:
            found[named(path)] = many
    assert found == LONG_LINES
