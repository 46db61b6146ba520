"""Clients: a key is shown once and only its hash is kept."""

from __future__ import annotations

import asyncio
import hashlib
import re

import asyncpg
import pytest

from ni.clients import (
    SCOPES,
    ClientExists,
    add_client,
    check_scopes,
    disable_client,
    key_hash,
    list_clients,
)
from ni.errors import NiError
from ni.session import connected
from tests.support.databases import Database

CONTRACT_SCOPES = (
    "balance:read hold:write posting:write posting:force posting:override packet:unload "
    "packet:accept problem:resolve day:operate history:read contract:read contract:refresh admin"
)


def test_the_scopes_are_the_contract_s() -> None:
    assert list(SCOPES) == CONTRACT_SCOPES.split()


async def test_only_the_hash_of_the_key_is_kept(owner: asyncpg.Connection) -> None:
    key = await add_client(owner, "cash", ["posting:write", "balance:read"])
    assert re.fullmatch(r"ni_[A-Za-z0-9_-]{43}", key)
    row = await owner.fetchrow("SELECT * FROM ni.client")
    assert row is not None
    assert row["key_hash"] == hashlib.sha256(key.encode()).digest() == key_hash(key)
    assert row["scopes"] == ["balance:read", "posting:write"]
    assert row["disabled_at"] is None
    assert key not in str(tuple(row))


async def test_keys_differ(owner: asyncpg.Connection) -> None:
    keys = {await add_client(owner, f"client-{number}", ["admin"]) for number in range(5)}
    assert len(keys) == 5


async def test_a_name_is_taken_once(database: Database) -> None:
    async def add() -> str:
        async with connected(database.owner_dsn) as connection:
            return await add_client(connection, "cash", ["admin"])

    done = await asyncio.gather(*(add() for _ in range(4)), return_exceptions=True)
    assert sum(isinstance(one, str) for one in done) == 1
    assert sum(isinstance(one, ClientExists) for one in done) == 3


@pytest.mark.parametrize("name", ["", "a" * 65, "a b", "ü", "a/b", "a\n", "a\0"])
async def test_names_that_are_not_allowed(owner: asyncpg.Connection, name: str) -> None:
    with pytest.raises(NiError, match="cannot be a client's name"):
        await add_client(owner, name, ["admin"])


async def test_the_longest_name(owner: asyncpg.Connection) -> None:
    await add_client(owner, "aZ9._-" + "x" * 58, ["admin"])
    assert [client.name for client in await list_clients(owner)] == ["aZ9._-" + "x" * 58]


def test_scopes_are_checked_and_put_in_order() -> None:
    assert check_scopes(["admin", "balance:read", "admin"]) == ["balance:read", "admin"]
    with pytest.raises(NiError, match="there is no scope root, write"):
        check_scopes(["write", "admin", "root"])
    with pytest.raises(NiError, match="at least one scope"):
        check_scopes([])


async def test_disabling_is_noted_once(owner: asyncpg.Connection) -> None:
    await add_client(owner, "cash", ["admin"])
    since = await disable_client(owner, "cash")
    assert await disable_client(owner, "cash") == since
    assert [client.disabled_at for client in await list_clients(owner)] == [since]
    with pytest.raises(NiError, match="there is no client nobody"):
        await disable_client(owner, "nobody")
