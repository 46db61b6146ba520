"""Plans of everything that scans the outbox or a queue, on an empty database never analysed."""

from __future__ import annotations

import asyncpg
import pytest

from ni.embedded_door import BURY, DELAY, END, OPEN, TAKE
from ni.embedded_queues import DELIVER
from ni.outbox import BEGINNING, PAGE, REMOVE
from tests.schema.test_plans import Plans, session

__all__ = ["session"]  # a fixture
LAPS = {f"outbox_{lap}" for lap in range(10)}


def scans(plans: Plans) -> dict[str, list[tuple[str, str]]]:
    """How each table is found: kind of node, and its index condition."""
    found: dict[str, list[tuple[str, str]]] = {}
    for _, node in plans.nodes():
        table = node.get("Relation Name", "")
        assert node["Node Type"] not in ("Hash Join", "Merge Join")
        if table and node["Node Type"] not in ("ModifyTable", "LockRows"):
            condition = node.get("Index Cond", node.get("Recheck Cond", ""))
            found.setdefault(table, []).append((node["Node Type"], condition))
    return found


def check(found: dict[str, list[tuple[str, str]]], tables: set[str], *columns: str) -> None:
    """Each of the tables was found by an index with conditions on these columns."""
    for table in tables & found.keys():
        for kind, condition in found[table]:
            assert kind in ("Index Scan", "Index Only Scan", "Bitmap Heap Scan"), (table, kind)
            assert all(column in condition for column in columns), (table, condition)
    assert tables & found.keys(), (tables, list(found))


@pytest.mark.parametrize("analysed", [False, True], ids=["new", "analysed"])
async def test_a_page_walks_the_key(session: asyncpg.Connection, analysed: bool) -> None:
    if analysed:
        await session.execute("analyze")
    plans = Plans(session)
    await session.fetch(PAGE, [0], [BEGINNING], [10], [20], ["A", "B"])
    found = scans(plans)
    check(found, LAPS, "bucket", "event_id")
    assert found.keys() >= LAPS
    nodes = [node for _, node in plans.nodes()]
    assert all("Sort" not in node["Node Type"] for node in nodes), "a page is not sorted"
    filters = [node["Filter"] for node in nodes if "account" in node.get("Filter", "")]
    assert filters, "accounts are left out"
    assert all("hashed SubPlan" in words for words in filters), filters


async def test_events_are_removed_by_key_in_one_lap(session: asyncpg.Connection) -> None:
    plans = Plans(session)
    await session.fetchval(REMOVE, 0, 3, [BEGINNING])
    found = scans(plans)
    check(found, LAPS, "bucket", "event_id")
    looked_at = LAPS & found.keys()
    assert looked_at <= {"outbox_3", "outbox_8"}, looked_at


async def test_queues_are_walked_by_key(session: asyncpg.Connection) -> None:
    holder = BEGINNING
    assert await session.fetchval(OPEN, "q", ".*", False, 9, holder, 60) == "mine"
    plans = Plans(session)
    await session.fetchval(DELIVER, 0, 0, [BEGINNING], ["t"], [b"x"])
    await session.fetch(TAKE, "q", holder, BEGINNING, 5, 60, 3, True)
    for statement, rest in ((END, ()), (DELAY, (5, None)), (BURY, ("why",))):
        await session.fetchval(statement, "q", [BEGINNING], *rest)
    found = scans(plans)
    check(found, {"event_delivery"}, "bucket", "queue", "event_id")
    check(found, {"event_queue"}, "bucket")


async def test_the_sweep_walks_the_due_holds_from_its_floor(session: asyncpg.Connection) -> None:
    plans = Plans(session)
    await session.fetch("select * from ni.due_accounts_v2(0::smallint, now(), 10)")
    check(scans(plans), {"hold"}, "expires_at >", "expires_at <=")
