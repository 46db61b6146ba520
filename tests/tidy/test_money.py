"""Money is an integer of minor units everywhere: no float comes near it.

Modules of ni, api and workers have no float at all: no literal with a point, no `float`, no true
division. The exception are the modules of MEASURING, which deal with seconds and rates; a function
of theirs that does so never names an amount. Decimal is not needed anywhere.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Final

from tests.tidy.sources import SHIPPED, named, of_kind, sql_without_comments, tree

MEASURING: Final = frozenset(
    {
        "api/calls.py",  # the time a body may take
        "api/clients.py",  # when the table of clients was read
        "api/dispatch.py",  # the time a request took
        "api/metrics.py",  # the bounds of a histogram
        "api/service.py",  # the time the day's figures may take
        "api/rate_limit.py",  # the time Valkey may take
        "ni/cli/replay.py",  # rows a second
        "ni/clock.py",  # seconds of the process clock
        "ni/database.py",  # time-outs of connections
        "ni/day_switch.py",  # pauses between tries
        "ni/amqp.py",  # waiting for the broker
        "ni/amqp_door.py",  # the time until a retry
        "ni/deliveries.py",  # the time until a retry
        "ni/embedded_door.py",  # leases and pauses
        "ni/engine.py",  # deadlines
        "ni/event_publisher.py",  # how long the broker has been silent
        "ni/outbox.py",  # when it was read from its start
        "ni/relay_lease.py",  # how long a lease lasts
        "ni/server_clock.py",  # when it was asked
        "ni/night_copy.py",  # pauses between chunks
        "ni/packets.py",  # deadlines and pauses
        "ni/postgres_server.py",  # waiting for a server
        "ni/private_file.py",  # waiting for a file's lock
        "ni/processes.py",  # waiting for a process
        "ni/queues.py",  # deadlines
        "ni/reads.py",  # waiting for a connection
        "ni/replay/report.py",  # latencies
        "ni/replay/sender.py",  # pauses between tries
        "ni/replay/switch.py",  # pauses between tries
        "ni/rest_client.py",  # the time an answer took
        "ni/sms/gateway.py",  # the time a try may take
        "ni/sms/health.py",  # pauses of everybody
        "ni/sms/inbox.py",  # pauses before a call is made again
        "ni/sms/room.py",  # when texts were counted
        "ni/sms/scans.py",  # when all were looked through
        "ni/sms/sender.py",  # pauses between looks
        "ni/sms/store.py",  # time-outs of connections
        "ni/retries.py",  # pauses between tries
        "ni/server_home.py",  # waiting for a file's lock
        "ni/service_user.py",  # waiting for a command
        "ni/turns.py",  # how long a lane waits for its turn
        "ni/supervisor.py",  # pauses before a child is started again
        "ni/up.py",  # waiting for the API
        "ni/up_lock.py",  # waiting for another process
        "ni/up_servers.py",  # pauses before a server is started again
        "ni/valkey_server.py",  # waiting for a server
        "ni/warmth.py",  # waiting for a session
        "workers/end_of_day.py",  # pauses between looks
        "workers/night_copy.py",  # pauses between rounds
        "workers/housekeeping.py",  # pauses between rounds
        "ni/culprits.py",  # the time of a search
        "ni/straight_through.py",  # pauses of packets
        "workers/packets.py",  # pauses between passes
        "workers/relay.py",  # pauses
        "workers/pauses.py",  # their length
    }
)
MONEY: Final = re.compile(
    r"(^|_)(amount|amounts|minor|balance|available|captured|released|pending|created"
    r"|applied|credit_limit|opening)(_|$)"
)
INEXACT: Final = frozenset({"decimal", "Decimal", "fractions", "math", "numpy"})
FILE_NAMES: Final = frozenset({"RUN_FILE", "SECRETS", "LOCK_FILE", "program", "part", "file"})
"""Names that stand for a file's name on the right of a path's `/`."""


def _joins_a_path(node: ast.BinOp) -> bool:
    right = node.right
    if isinstance(right, ast.Name):
        return right.id in FILE_NAMES
    return isinstance(right, ast.JoinedStr) or (
        isinstance(right, ast.Constant) and isinstance(right.value, str)
    )


def floats_of(node: ast.AST) -> list[int]:
    """The lines below `node` that make or name a float."""
    lines = []
    for part in ast.walk(node):
        match part:
            case ast.Constant(value=float() | complex()) | ast.Name(id="float"):
                lines.append(part.lineno)
            case ast.BinOp(op=ast.Div()) if not _joins_a_path(part):
                lines.append(part.lineno)
            case ast.AugAssign(op=ast.Div()):
                lines.append(part.lineno)
    return lines


def money_of(node: ast.AST) -> set[str]:
    """The names below `node` that stand for money."""
    names = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
    names |= {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)}
    names |= {part.arg for part in ast.walk(node) if isinstance(part, ast.arg)}
    return {name for name in names if MONEY.search(name)}


def mixed(path: Path) -> list[str]:
    """The functions of a module that measure and name money."""
    return [
        node.name
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and floats_of(node)
        and money_of(node)
    ]


def inexact(path: Path) -> list[int]:
    """The lines that import another kind of number, or round."""
    lines = []
    for node in ast.walk(tree(path)):
        match node:
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                modules = {alias.name for alias in names} | {getattr(node, "module", "")}
                if modules & INEXACT:
                    lines.append(node.lineno)
            case ast.Call(func=ast.Name(id="round")):
                lines.append(node.lineno)
    return lines


def test_no_float_near_money() -> None:
    """Also: MEASURING holds no module that does not need to be there."""
    found = {named(path) for path in of_kind(".py", under=SHIPPED) if floats_of(tree(path))}
    assert found == MEASURING


def test_what_measures_names_no_money() -> None:
    found = {named(path): mixed(path) for path in of_kind(".py", under=SHIPPED)}
    assert {name: functions for name, functions in found.items() if functions} == {}


def test_no_decimal_and_no_rounding() -> None:
    found = {named(path): inexact(path) for path in of_kind(".py", under=SHIPPED)}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_no_float_in_sql() -> None:
    words = r"\b(real|double precision|float[48]?|money|round|ceil|floor|trunc)\b"
    found = {
        named(path): re.findall(words, sql_without_comments(path), re.IGNORECASE)
        for path in of_kind(".sql", under=(*SHIPPED, "migrations"))
    }
    assert {name: types for name, types in found.items() if types} == {}


def test_numeric_is_only_the_type_of_an_unbounded_sum() -> None:
    """An internal account's pending is summed over all its legs, so its sum may pass bigint."""
    found = {
        named(path): many
        for path in of_kind(".sql", under=(*SHIPPED, "migrations"))
        if (many := len(re.findall(r"\bnumeric\b", sql_without_comments(path))))
    }
    assert found == {"migrations/functions/read.sql": 3}


def test_the_rule_sees_what_it_must() -> None:
    wrong = ("x = 0.5", "def f(amount: float) -> None: ...", "y = amount / 2", "z /= 3")
    assert all(floats_of(ast.parse(line)) for line in wrong)
    assert floats_of(ast.parse('p = home / "run.json" / f"{n}.log" / RUN_FILE')) == []
    assert money_of(ast.parse("a.available_after + minor")) == {"available_after", "minor"}
