"""Plans of what the notifier calls again and again, on an empty database never analysed.

A plan that a session made while a table was empty stays for as long as the session.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import pytest

from ni.clock import utc_now
from ni.settings import Settings
from ni.sms.store import (
    FORGET_ACCOUNTS,
    FORGET_IDS,
    FORGET_MESSAGES,
    LEASE,
    PLACE,
    SUBSCRIBERS,
    TAKE,
    WAITING,
    sms_session_settings,
)
from ni.sql import query
from tests.events.test_plans import check, scans
from tests.schema.test_plans import EXPLAIN, Plans
from tests.support.databases import Database

TABLES = {"sms_account", "sms_inbox", "sms_message", "sms_subscription"}


@pytest.fixture
async def session(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """A superuser's session with the notifier's settings, which explains what it runs."""
    settings = sms_session_settings(Settings()) | EXPLAIN
    connection = await asyncpg.connect(database.superuser_dsn, server_settings=settings)
    yield connection
    await connection.close()


async def test_texts_are_found_by_key(session: asyncpg.Connection) -> None:
    event = (uuid4(), "A", 1, "ni.posting.created", utc_now(), "+420601234567", "en", "a", "b")
    plans = Plans(session)
    await session.fetch(SUBSCRIBERS, ["A"])
    await session.fetchrow(TAKE, [event], 86_400, 60, 10)
    found = scans(plans)
    assert found.keys() >= TABLES
    check(found, TABLES, "bucket", "account")
    plans = Plans(session)
    row = await session.fetchrow(LEASE, 0, None, 5, 30, 60)
    assert row is not None
    [given] = row["o_messages"]
    settled = (0, given["event_id"], "A", given["lease"], "sent", None, 0, True)
    await session.fetch(query("sms_settle"), *([value] for value in settled))
    found = scans(plans)
    check(found, TABLES, "bucket")
    assert any("due_at" in condition for _, condition in found["sms_account"])


async def test_what_is_counted_and_forgotten_is_walked_by_an_index(
    session: asyncpg.Connection,
) -> None:
    plans = Plans(session)
    await session.fetchval(WAITING, 10)
    await session.fetchval(PLACE, None, 10)
    await session.fetchrow(FORGET_IDS, None, 10)
    await session.fetchrow(FORGET_MESSAGES, None, 1, 10)
    await session.fetchrow(FORGET_ACCOUNTS, -1, "", 10)
    found = scans(plans)
    check(found, TABLES)
    check(found, {"sms_account"}, "bucket", "account")
