"""Plans on an empty, never analysed database, as the engine's sessions make and keep them.

A plan that a session made while a table was empty stays for as long as the session: so it must be
the plan for a full table. Every scan of a growing table finds its rows by the whole key.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
import pytest

from ni import transaction
from ni.commands import CreatePosting
from ni.database import session_settings
from ni.decisions import Decision
from ni.settings import Settings
from ni.sql import query
from tests.support.databases import Database

EXPLAIN: Final = {
    "session_preload_libraries": "auto_explain",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_nested_statements": "on",
    "auto_explain.log_format": "json",
    "client_min_messages": "log",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "transaction_timeout": "0",
}
ACCOUNTS: Final = ["A", "B", "C"]
HOLD: Final = UUID("01a20000-0000-7000-8000-000000000000")
SELECTIVE: Final = {
    "position": [{"account"}],
    "state": [{"account"}],
    "applied": [{"account"}],
    "account": [{"account"}],
    "block": [{"account"}],
    "hold": [{"hold_id"}, {"account"}, {"reference"}],
    "posting": [{"posting_id"}, {"debit_account"}, {"credit_account"}, {"reference"}],
    "unbooked": [
        {"client", "packet", "status", "posting_id"},
        {"debit_internal"},
        {"credit_internal"},
    ],
    "request": [{"client", "key"}],
}
"""For each growing table, the sets of columns one of which an index condition must name."""


@pytest.fixture
async def session(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """A superuser's session with the settings of the engine's, which explains what it runs."""
    settings = session_settings(Settings(), "day") | EXPLAIN
    connection = await asyncpg.connect(database.superuser_dsn, server_settings=settings)
    await connection.execute(
        "insert into core.ledger (business_date, next_business_date)"
        " values ('2026-01-01', '2026-01-02')"
    )
    yield connection
    await connection.close()


class Plans:
    """Collects the plans of what a session runs."""

    def __init__(self, session: asyncpg.Connection) -> None:
        self.found: list[dict[str, Any]] = []
        session.add_log_listener(self._note)

    def _note(self, _session: object, message: Any) -> None:
        _, marker, text = message.message.partition("plan:")
        if marker and "typeinfo_tree" not in text:  # the driver's own look at types
            self.found.append(json.loads(text))

    def nodes(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every node of every plan, with its statement."""
        for plan in self.found:
            waiting = [plan["Plan"]]
            while waiting:
                node = waiting.pop()
                waiting += node.get("Plans", [])
                yield " ".join(plan["Query Text"].split())[:90], node


def check(plans: Plans, tables: set[str]) -> None:
    """Every node finds its rows by key; `tables` were all looked at."""
    seen = set()
    for statement, node in plans.nodes():
        kind, table = node["Node Type"], node.get("Relation Name")
        assert kind not in ("Hash Join", "Merge Join", "Materialize"), (statement, kind)
        if table not in SELECTIVE or kind in ("ModifyTable", "LockRows"):
            continue
        if node.get("Schema", "ni") == "pg_catalog" or kind == "Result":
            continue
        seen.add(table)
        condition = node.get("Index Cond", node.get("Recheck Cond", ""))
        scans = ("Index Scan", "Index Only Scan", "Bitmap Heap Scan")
        assert kind in scans, (statement, kind, table)
        enough = any(all(f"{c} " in condition or f"{c} =" in condition for c in columns)
                     for columns in SELECTIVE[table])  # fmt: skip
        assert enough, (statement, table, condition)
    assert seen >= tables, tables - seen


async def _hot(session: asyncpg.Connection) -> None:
    floor = datetime(1970, 1, 1, tzinfo=UTC)
    async with session.transaction():
        await session.fetch("select * from ni.locate_v1(0::smallint, $1, $1)", [HOLD])
        await session.fetch(
            "select * from ni.lock_v1(0::smallint, 'day', $1, $2, $3, $4, $5, $5)",
            floor, ACCOUNTS, ["c"], ["k"], [HOLD],
        )  # fmt: skip


@pytest.mark.parametrize("analysed", [False, True])
async def test_locking_and_reading(session: asyncpg.Connection, analysed: bool) -> None:
    await session.execute(
        "insert into core.account (account, kind, currency) select a, 'customer', 'CZK'"
        " from unnest($1::text[]) as a",
        ACCOUNTS,
    )
    if analysed:
        await session.execute("analyze")
    plans = Plans(session)
    await _hot(session)
    check(plans, {"position", "state", "applied", "account", "block", "hold", "posting", "request"})


async def test_expiry_is_found_by_account(session: asyncpg.Connection) -> None:
    await session.execute(
        "insert into core.account (account, kind, currency) values ('A', 'customer', 'CZK');"
        "insert into ni.state values (0, 'A', 0, 0, 5, 1, '2020-01-01Z', '2020-01-02Z');"
        "insert into ni.hold values (0, '01a20000-0000-7000-8000-000000000000', 'c', 'A', 'CZK',"
        " 5, 0, 0, 'active', 'other', '2020-01-02Z', null, null, null, null, null, null, 0, 1, 1,"
        " '2020-01-01Z', '2020-01-01Z')"
    )
    plans = Plans(session)
    await _hot(session)
    assert any("t.bucket = p_bucket" in s or "e.expires_at" in s for s, _ in plans.nodes())
    check(plans, {"hold"})


async def test_balances_and_lists(session: asyncpg.Connection) -> None:
    await session.execute(
        "insert into core.account (account, kind, currency)"
        " values ('A', 'customer', 'CZK'), ('I', 'internal', 'CZK')"
    )
    plans = Plans(session)
    for account in ("A", "I"):
        await session.fetch("select * from ni.balance_v1(0::smallint, 'day', $1)", account)
    await session.fetch(query("hold_read"), 0, HOLD)
    await session.fetch(query("posting_read"), 0, HOLD)
    for suffix, reference in (("", None), ("_by_reference", "R")):
        await session.fetch(query(f"holds_of_account{suffix}"), 0, "A", None, reference, None, 5)
        await session.fetch(query(f"postings_of_account{suffix}"), [0], "A", reference, None, 5)
    check(plans, {"account", "block", "hold", "posting", "unbooked", "state", "applied"})


async def test_changes_find_their_rows(session: asyncpg.Connection) -> None:
    """The updates of named holds and postings; the row counts refuse, which is their answer.

    The posting is there and is not kept among the unbooked, so both are looked for.
    """
    await session.execute(
        "insert into ni.posting (bucket, posting_id, home, client, type, debit_account,"
        " credit_account, debit_customer, credit_customer, amount, currency, packet,"
        " straight_through, status, check_mode, value_date, valid_from, epoch, created_at,"
        f" changed_at) values (0, '{HOLD}', true, 'c', 'OTHER', 'A', 'B', true, false, 1, 'CZK',"
        " 'p', false, 'pending', 'available', now(), now(), 1, now(), now())"
    )
    plans = Plans(session)
    for holds, postings in (("holds", "none"), ("none", "postings")):
        hold = f"array[row('{HOLD}', 'active', 'released', 1, 0, 1, null, 0, 1, 1, now())]"
        posting = (
            f"array[row('{HOLD}', 'pending', 'cancelled', 'A', 'B', true, false, false, false,"
            " 0, 1, 0, 1, 1, now(), 'x', null, null)]"
        )
        with pytest.raises(asyncpg.PostgresError, match="rows written: 0"):
            await session.execute(
                "select ni.write_changes_v1(0::smallint,"
                f" {hold if holds == 'holds' else 'array[]'}::ni.hold_change_v1[],"
                f" {posting if postings == 'postings' else 'array[]'}::ni.posting_change_v1[])"
            )
    check(plans, {"hold", "posting", "unbooked"})


async def test_writing_finds_its_rows(session: asyncpg.Connection) -> None:
    """A whole decision, written: what it changes is found by key, and nothing else is read."""
    await session.execute(
        "insert into core.account (account, kind, currency, balance) values"
        " ('A', 'customer', 'CZK', 100), ('B', 'customer', 'CZK', 0)"
    )
    plans = Plans(session)
    for key in ("first", "second"):
        command = CreatePosting(
            client="c", key=key, fingerprint=b"f", any_client=False, debit_account="A",
            credit_account="B", amount=1, currency="CZK", packet="p", straight_through=False,
            type="OTHER", check="available", value_date=None, valid_from=None, link_id=None,
            reference=None, narrative=None, actor=None, legal_reference=None,
        )  # fmt: skip
        (answer,) = await transaction.run(session, "day", 1, [command])
        assert answer.decision is Decision.approved
    written = {n["Relation Name"] for _, n in plans.nodes() if n["Node Type"] == "ModifyTable"}
    assert written == {"position", "state", "posting", "unbooked", "outbox", "request"}
    check(plans, {"position", "state", "request"})


async def test_chores_walk_an_index(session: asyncpg.Connection) -> None:
    plans = Plans(session)
    await session.fetch("select * from ni.due_accounts_v1(0::smallint, 10)")
    await session.fetch("select * from ni.prune_eras_v1(0::smallint, '', 10)")
    await session.fetch("select ni.prune_requests_v1(0::smallint, 30, 10)")
    scans = {
        (node.get("Relation Name"), node["Node Type"], node.get("Index Name"))
        for _, node in plans.nodes()
        if node.get("Relation Name") in ("hold", "state") and node["Node Type"] != "ModifyTable"
    }
    assert ("hold", "Index Scan", "hold_due") in scans
    assert {kind for _, kind, _ in scans} <= {"Index Scan", "Index Only Scan"}
    conditions = {
        str(node.get("Recheck Cond") or node.get("TID Cond"))
        for _, node in plans.nodes()
        if node.get("Relation Name") == "request" and node["Node Type"] != "ModifyTable"
    }
    assert len(conditions) == 2
    assert {condition.split()[0] for condition in conditions} == {"(ctid", "(decided_at"}
