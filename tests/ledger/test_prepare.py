"""Preparing a server for NI: its roles and a database, as often as wanted."""

from __future__ import annotations

from uuid import uuid4

import asyncpg
import pytest

from ni.embedded import EmbeddedPostgres
from ni.errors import NiError
from ni.migrate import ROLES, prepare_database
from ni.session import connected
from ni.sql import query
from tests.ledger.conftest import passwords
from tests.support.databases import Database

WRONG = dict.fromkeys(ROLES, "secret")


async def test_the_database_is_what_ni_needs(
    place: Database, postgres: EmbeddedPostgres, superuser_dsn: str
) -> None:
    await prepare_database(superuser_dsn, place.name, passwords(postgres))
    async with connected(superuser_dsn) as connection:
        row = await connection.fetchrow(
            "SELECT pg_encoding_to_char(encoding), datlocprovider::text, datlocale, "
            "pg_get_userbyid(datdba) FROM pg_database WHERE datname = $1",
            place.name,
        )
        assert tuple(row or ()) == ("UTF8", "b", "C.UTF-8", "ni_owner")
        everybody = await connection.fetchval(
            "SELECT count(*) FROM pg_database, aclexplode(datacl) WHERE datname = $1 "
            "AND grantee = 0",
            place.name,
        )
        assert everybody == 0


async def test_the_roles_can_log_in_and_little_else(place: Database, superuser_dsn: str) -> None:
    async with connected(superuser_dsn) as connection:
        roles = await connection.fetch(
            "SELECT rolsuper OR rolcreatedb OR rolcreaterole OR rolbypassrls OR rolreplication, "
            "rolcanlogin, has_database_privilege(rolname, $1, 'CONNECT') "
            "FROM pg_roles WHERE rolname = ANY ($2)",
            place.name,
            list(ROLES),
        )
    assert [tuple(role) for role in roles] == [(False, True, True)] * len(ROLES)


@pytest.mark.parametrize("password", ["plain", 'it\'s "so" \\ %I %L $1 $$'])
async def test_a_role_gets_its_password_whatever_characters_it_has(
    postgres: EmbeddedPostgres, superuser_dsn: str, password: str
) -> None:
    role = f"ni test \"{uuid4().hex[:8]}'"
    async with connected(superuser_dsn) as connection:
        await connection.execute(query("prepare_functions"))
        for word in ("earlier", password):
            await connection.execute("SELECT pg_temp.prepare_role($1, $2)", role, word)
        drop = await connection.fetchval("SELECT format('DROP ROLE %I', $1::text)", role)
        try:
            stranger = await asyncpg.connect(
                host="127.0.0.1",
                port=postgres.port,
                user=role,
                password=password,
                database="postgres",
            )
            await stranger.close()
        finally:
            await connection.execute(drop)


async def test_a_foreign_role_does_not_get_in(
    place: Database, postgres: EmbeddedPostgres, superuser_dsn: str
) -> None:
    role = f"stranger_{uuid4().hex[:8]}"
    async with connected(superuser_dsn) as connection:
        await connection.execute(query("prepare_functions"))
        await connection.execute("SELECT pg_temp.prepare_role($1, 'secret')", role)
        try:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await asyncpg.connect(
                    f"postgresql://{role}:secret@127.0.0.1:{postgres.port}/{place.name}"
                )
        finally:
            await connection.execute(f"DROP ROLE {role}")


@pytest.mark.parametrize(
    "words", [{}, {"ni_owner": "a"}, WRONG | {"ni_core": ""}, WRONG | {"root": "a"}]
)
async def test_every_role_needs_a_password(superuser_dsn: str, words: dict[str, str]) -> None:
    with pytest.raises(NiError, match="a password is needed for each of the roles"):
        await prepare_database(superuser_dsn, "never_made", words)


@pytest.mark.parametrize("name", ["", "Ni", "a b", 'a";', "1a", "a" * 64])
async def test_names_that_a_database_cannot_have(superuser_dsn: str, name: str) -> None:
    with pytest.raises(NiError, match="cannot be the database's name"):
        await prepare_database(superuser_dsn, name, WRONG)


async def test_a_database_of_another_encoding_is_refused(
    postgres: EmbeddedPostgres, superuser_dsn: str
) -> None:
    name = f"latin_{uuid4().hex[:8]}"
    async with connected(superuser_dsn) as connection:
        await connection.execute(
            f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' "
            "LOCALE_PROVIDER libc LOCALE 'C'"
        )
        try:
            with pytest.raises(NiError, match="has the encoding LATIN1; NI needs UTF8"):
                await prepare_database(superuser_dsn, name, passwords(postgres))
        finally:
            await connection.execute(f"DROP DATABASE {name}")


async def test_only_a_superuser_may(place: Database, postgres: EmbeddedPostgres) -> None:
    with pytest.raises(NiError, match="preparing the database needs a superuser"):
        await prepare_database(place.owner_dsn, place.name, passwords(postgres))
