"""The core's own role writes its own entries, and nothing that passes for one of NI's packets.

Neither it nor the engine's role becomes the owner by what it puts into its session's own schema.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import asyncpg
import pytest

from ni.packets import ENTER, UNLOAD
from ni.session import connected
from tests.engine.world import CLIENT, FEES
from tests.packets.desk import Desk

_HERE: Final = Path(__file__).parent
FORGED_PACKET: Final = (_HERE / "forged_packet.sql").read_text()
OWN_ENTRY: Final = (_HERE / "own_entry.sql").read_text()
CORE_INTRUDER: Final = (_HERE / "core_intruder.sql").read_text()
ENGINE_INTRUDER: Final = (_HERE / "engine_intruder.sql").read_text()
POSTING: Final = UUID("01a20000-0000-7000-8000-000000000000")
THROUGH_NI: Final = "through NI alone"


@pytest.fixture
async def core(desk: Desk) -> AsyncIterator[asyncpg.Connection]:
    """The core's session, beside a packet that NI has unloaded."""
    [account] = await desk.world.open()
    await desk.post(account, 1_00)
    await desk.unload()
    async with connected(desk.world.database.core_dsn) as session:
        yield session
    assert len(await desk.entries()) == 2


async def test_no_packet_is_forged(desk: Desk, core: asyncpg.Connection) -> None:
    with pytest.raises(asyncpg.RaiseError, match=THROUGH_NI):
        await core.execute(FORGED_PACKET)
    assert await desk.world.owner.fetchval("select count(*) from core.packet") == 1


@pytest.mark.parametrize(("packet", "posting"), [(1, None), (None, POSTING), (1, POSTING)])
async def test_no_entry_is_forged(core: asyncpg.Connection, packet: Any, posting: Any) -> None:
    with pytest.raises(asyncpg.RaiseError, match=THROUGH_NI):
        await core.execute(OWN_ENTRY, packet, posting)


@pytest.mark.parametrize("change", [f"packet_id = 1, posting_id = '{POSTING}'", "packet_id = 1",
                                    f"posting_id = '{POSTING}'"])  # fmt: skip
async def test_no_entry_of_its_own_becomes_one(core: asyncpg.Connection, change: str) -> None:
    await core.execute(OWN_ENTRY, None, None)
    with pytest.raises(asyncpg.RaiseError, match=THROUGH_NI):
        await core.execute(f"update core.entry set {change} where account = 'OWN'")


async def test_its_own_entries_are_its_own(core: asyncpg.Connection) -> None:
    await core.execute(OWN_ENTRY, None, None)
    await core.execute("update core.entry set narrative = 'loan' where account = 'OWN'")
    deleted = await core.execute("delete from core.entry where account = 'OWN'")
    assert deleted == "DELETE 1"


async def test_no_packet_is_given_back_as_another(core: asyncpg.Connection) -> None:
    for statement in (
        "update core.packet set status = 'rejected'",
        "update core.entry set packet_id = null, posting_id = null",
        "delete from core.entry",
        "delete from core.packet",
    ):
        with pytest.raises(asyncpg.RaiseError, match=THROUGH_NI):
            await core.execute(statement)


@pytest.mark.parametrize("name", ["lower", "", "A" * 35, "A B"])
async def test_names_of_accounts_are_still_tested(core: asyncpg.Connection, name: str) -> None:
    for statement in (
        "insert into core.account (account, kind, currency) values ($1, 'customer', 'CZK')",
        "update core.account set account = $1 where kind = 'customer'",
    ):
        with pytest.raises(asyncpg.CheckViolationError):
            await core.execute(statement, name)


async def test_the_core_s_role_does_not_become_the_owner(desk: Desk) -> None:
    [account] = await desk.world.open(balance=100_00)
    async with connected(desk.world.database.core_dsn) as core:
        await core.execute(CORE_INTRUDER)
        assert await core.fetchval("select ni.lock_available($1)", account) == 100_00
    assert await desk.world.owner.fetchval("select count(*) from core.packet") == 0


async def test_the_engine_s_role_does_not_become_the_owner(desk: Desk) -> None:
    [account] = await desk.world.open(balance=100_00)
    await desk.post(account, 10_00)
    async with connected(desk.world.database.engine_dsn) as engine, engine.transaction():
        await engine.execute(ENGINE_INTRUDER)
        row = await engine.fetchrow(ENTER, CLIENT, "p")
        assert row is not None
        last = row["o_number"]
        await engine.fetch(UNLOAD, CLIENT, "p", last + 1, True, CLIENT, [], None, 10)
    assert await desk.core_balance(account) == 90_00
    assert await desk.core_balance(FEES) == 0
