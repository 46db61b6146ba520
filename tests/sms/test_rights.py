"""The notifier talks to the outside, so its role can do nothing but its own work."""

from __future__ import annotations

from typing import Final

import asyncpg
import pytest

from ni.session import connected
from tests.support.databases import Database

OWN: Final = {
    "sms_subscription": {"SELECT"},
    "sms_inbox": {"SELECT", "INSERT", "DELETE"},
    "sms_inbox_floor": {"SELECT", "UPDATE"},
    "sms_message": {"SELECT", "INSERT", "UPDATE", "DELETE"},
    "sms_account": {"SELECT", "INSERT", "UPDATE", "DELETE"},
    "installation": {"SELECT"},
}
RIGHTS: Final = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
OWNERS_FUNCTIONS: Final = {
    "open_event_queue_v1",
    "leave_event_queue_v1",
    "take_deliveries_v1",
    "end_deliveries_v1",
    "delay_deliveries_v1",
    "bury_deliveries_v1",
}
"""Functions that run as the owner and that the notifier may call: the events' embedded door."""


async def test_the_notifier_touches_its_own_tables_alone(owner: asyncpg.Connection) -> None:
    tables = await owner.fetch(
        "select n.nspname, c.relname from pg_class as c join pg_namespace as n"
        " on n.oid = c.relnamespace where c.relkind in ('r', 'p', 'v', 'm', 'S', 'f')"
        " and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')"
    )
    assert {row["nspname"] for row in tables} >= {"ni", "core", "night", "day_alias", "night_alias"}
    for schema, table in tables:
        name = f"{schema}.{table}"
        found = {
            right
            for right in RIGHTS
            if await owner.fetchval(
                "select has_table_privilege('ni_sms', $1, $2)"
                " or ($2 in ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES')"
                "     and has_any_column_privilege('ni_sms', $1, $2))",
                name,
                right,
            )
        }
        assert found == (OWN.get(table, set()) if schema == "ni" else set()), name


async def test_the_notifier_calls_no_function_of_the_owner_but_the_door(
    owner: asyncpg.Connection,
) -> None:
    found = await owner.fetch(
        "select proname, has_function_privilege('ni_sms', p.oid, 'EXECUTE')"
        "       and has_schema_privilege('ni_sms', pronamespace, 'USAGE') as may"
        " from pg_proc as p where prosecdef and pronamespace <> 'pg_catalog'::regnamespace"
    )
    assert {row["proname"] for row in found if row["may"]} == OWNERS_FUNCTIONS


async def test_the_notifier_makes_nothing(owner: asyncpg.Connection) -> None:
    for schema in ("ni", "core", "night", "day_alias", "night_alias", "public"):
        allowed = await owner.fetchval(
            "select has_schema_privilege('ni_sms', $1, 'CREATE')", schema
        )
        assert not allowed, schema


@pytest.mark.parametrize("role", ["engine_dsn", "core_dsn"])
async def test_nobody_else_reads_phones_and_texts(database: Database, role: str) -> None:
    async with connected(getattr(database, role)) as session:
        for table in ("sms_subscription", "sms_message"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await session.execute(f"select from ni.{table}")
