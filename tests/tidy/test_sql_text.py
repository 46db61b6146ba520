"""SQL lives in .sql files. Python has calls of one function at most, and builds no SQL text."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Final

from tests.tidy.sources import ROOT, SHIPPED, docstrings, named, of_kind, text, tree

SQL: Final = re.compile(
    r"""\s*(
    select\s | insert\s+into\s | update\s+[\w.]+\s+(as\s+\w+\s+)?set\s | delete\s+from\s
    | merge\s+into\s | truncate\s | grant\s | revoke\s | listen\s | notify\s | lock\s+table\s
    | (create|alter|drop)\s+(or\s+replace\s+)?(temp\w*\s+)?
      (table|function|index|schema|role|view|database|type)\s
    | with\s+(recursive\s+)?\w+\s+as\s | copy\s+\w+\s+(from|to)\s
    | set\s+(local\s+|session\s+)?\w+\s*(=|to)\s
    )""",
    re.IGNORECASE | re.VERBOSE,
)
ONE_CALL: Final = re.compile(
    r"SELECT (\* FROM )?([a-z_]+\.)?[a-z_0-9]+"
    r"\((('[\w.]*'|\$\d+|true|false)(, ('[\w.]*'|\$\d+|true|false))*)?\)(::text| IS NULL)?"
)
RUNS: Final = frozenset(
    {"execute", "executemany", "fetch", "fetchrow", "fetchval", "fetchmany", "cursor", "prepare"}
)


def _words(node: ast.AST) -> str | None:
    """The text of a string, with a mark where an f-string has a value."""
    match node:
        case ast.Constant(value=str(value)):
            return value
        case ast.JoinedStr(values=values):
            return "".join(_words(value) or "{}" for value in values)
    return None


def sql_texts(path: Path) -> list[tuple[int, str]]:
    """The strings of a Python file that are SQL, docstrings left out."""
    skipped = docstrings(path)
    found = []
    for node in ast.walk(tree(path)):
        words = None if id(node) in skipped else _words(node)
        if words is not None and SQL.match(words):
            found.append((getattr(node, "lineno", 0), words))
    return found


def built_texts(path: Path) -> list[int]:
    """The lines that run a text that they put together."""
    lines = []
    for node in ast.walk(tree(path)):
        match node:
            case ast.Call(func=ast.Attribute(attr=name), args=[first, *_]) if name in RUNS:
                built = isinstance(first, ast.JoinedStr | ast.BinOp) or (
                    isinstance(first, ast.Call)
                    and isinstance(first.func, ast.Attribute)
                    and first.func.attr in ("format", "join", "replace")
                )
                if built:
                    lines.append(node.lineno)
    return lines


def test_sql_in_python_is_the_call_of_one_function() -> None:
    found = {}
    for path in of_kind(".py", under=(*SHIPPED, "bench")):
        wrong = [words for _, words in sql_texts(path) if not ONE_CALL.fullmatch(words)]
        if wrong:
            found[named(path)] = wrong
    assert found == {}


def test_what_is_run_is_not_put_together() -> None:
    found = {named(path): built_texts(path) for path in of_kind(".py", under=(*SHIPPED, "bench"))}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_named_queries_say_their_purpose() -> None:
    silent = [p for p in of_kind(".sql", under=("ni", "bench")) if not text(p).startswith("-- ")]
    assert [named(path) for path in silent] == []


def test_every_named_query_is_used() -> None:
    names = {path.stem for path in of_kind(".sql", under=("ni",))}
    used = set()
    for path in of_kind(".py", under=(*SHIPPED, "bench", "tests")):
        for node in ast.walk(tree(path)):
            words = _words(node)
            if words is None:
                continue
            pattern = re.escape(words).replace(r"\{\}", r"\w*")
            used |= {name for name in names if re.fullmatch(pattern, name)}
    assert names - used == set()


def test_the_rule_sees_what_it_must() -> None:
    wrong = (
        "select 1",
        "INSERT INTO ni.hold VALUES ($1)",
        "update ni.hold set status = 'x' ",
        "DELETE FROM ni.request",
        "SET lock_timeout = 5",
        "SELECT * FROM ni.f($1) WHERE {}",
        "SELECT {}($1)",
        "SELECT a FROM ni.f($1)",
    )
    assert all(SQL.match(words) and not ONE_CALL.fullmatch(words) for words in wrong)
    right = ("SELECT * FROM ni.f_v1($1, $2)", "SELECT set_config('lock_timeout', $1, true)")
    assert all(ONE_CALL.fullmatch(words) for words in right)
    prose = (
        "Set fsync = on and start again",
        "with the password as",
        "Update the page",
        "Selected",
    )
    assert [words for words in prose if SQL.match(words)] == ["Set fsync = on and start again"]
    assert (ROOT / "ni" / "sql").is_dir()
