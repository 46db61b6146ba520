"""Time has two sources: ni/clock.py for a process, ni.clock() for everything that is decided."""

from __future__ import annotations

import ast
import re
from typing import Final

from tests.tidy.sources import SHIPPED, named, of_kind, sql_without_comments, text, tree

PROCESS_CLOCK: Final = "ni/clock.py"
_TIME: Final = frozenset(
    {
        "time",
        "time_ns",
        "monotonic",
        "monotonic_ns",
        "perf_counter",
        "perf_counter_ns",
        "localtime",
        "gmtime",
        "process_time",
    }
)
_DATES: Final = frozenset({"now", "utcnow", "today", "fromtimestamp"})
_SQL_NOW: Final = re.compile(
    r"\b(now\(\)|(clock|statement|transaction)_timestamp\b|current_(timestamp|time|date)\b"
    r"|local(timestamp|time)\b|timeofday\b)",
    re.IGNORECASE,
)
SQL_CLOCKS: Final = {
    "migrations/functions/clock.sql": 1,
    # The default of core.account.opened_at, and the row of ni.mode, made before any function is.
    "migrations/0001_schema.sql": 2,
    # When a migration was applied; ni.clock() may not be there yet.
    "ni/sql/migration_record.sql": 1,
    # Where a row of the outbox lies; it decides nothing.
    "migrations/0005_events.sql": 1,
    "migrations/functions/outbox.sql": 1,
}


def clocks_of(module: ast.Module) -> list[int]:
    """The lines that ask a clock."""
    lines = []
    for node in ast.walk(module):
        match node:
            case ast.Attribute(value=ast.Name(id="time"), attr=name) if name in _TIME:
                lines.append(node.lineno)
            case ast.Attribute(value=ast.Name(id="datetime" | "date"), attr=name) if name in _DATES:
                lines.append(node.lineno)
            case ast.Attribute(value=ast.Attribute(attr="datetime" | "date"), attr=name) if (
                name in _DATES
            ):
                lines.append(node.lineno)
            case ast.ImportFrom(module="time", names=names):
                lines += [node.lineno for alias in names if alias.name in _TIME]
            case ast.Call(func=ast.Attribute(attr="time"), args=[]):
                lines.append(node.lineno)  # the event loop's clock
    return lines


def test_python_asks_one_clock() -> None:
    found = {named(path): clocks_of(tree(path)) for path in of_kind(".py", under=SHIPPED)}
    assert {name for name, lines in found.items() if lines} == {PROCESS_CLOCK}


def test_the_rule_sees_what_it_must() -> None:
    wrong = (
        "time.time()",
        "time.monotonic()",
        "datetime.now(UTC)",
        "datetime.utcnow()",
        "datetime.datetime.now()",
        "date.today()",
        "from time import monotonic",
        "asyncio.get_running_loop().time()",
    )
    assert all(clocks_of(ast.parse(line)) for line in wrong)
    assert clocks_of(ast.parse("time.sleep(1); clock.monotonic(); clock.utc_now()")) == []


def test_sql_asks_one_clock() -> None:
    found = {
        named(path): many
        for path in of_kind(".sql", under=(*SHIPPED, "migrations"))
        if (many := len(_SQL_NOW.findall(sql_without_comments(path))))
    }
    assert found == SQL_CLOCKS


def test_decisions_do_not_ask_the_process_clock() -> None:
    """What is pure, or runs inside a transaction, takes the instant that the locks gave it."""
    pure = ("decide", "batch_state", "posting_rules", "hold_rules", "transaction", "writing")
    for name in (*pure, "movements", "documents", "identifiers", "money", "commands"):
        path = next(p for p in of_kind(".py", under=("ni",)) if named(p) == f"ni/{name}.py")
        assert not re.search(r"\bclock\.|import clock\b|utc_now|monotonic", text(path)), name
