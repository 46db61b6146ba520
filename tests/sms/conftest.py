"""A database with the notifier's role, a gateway, and the notifier's parts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest
import structlog

from ni.database import close_pool
from ni.logs import configure_logs
from ni.session import connected
from ni.sms.store import open_sms_pool
from tests.sms.gateway_server import GatewayServer, gateway_server
from tests.sms.scene import Scene, sms_settings
from tests.support.databases import Database


@pytest.fixture(autouse=True)
def _logs() -> Iterator[None]:
    """As a process of NI logs."""
    configure_logs("warning")
    yield
    structlog.reset_defaults()


@pytest.fixture
def limits() -> dict[str, Any]:
    """Settings that differ from those of `sms_settings`; a test parametrizes it."""
    return {}


@pytest.fixture
async def owner(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """NI's owner on the test's database."""
    async with connected(database.owner_dsn) as connection:
        yield connection


@pytest.fixture
async def gateway() -> AsyncIterator[GatewayServer]:
    """A gateway in order."""
    async with gateway_server() as server:
        yield server


@pytest.fixture
async def scene(
    database: Database, owner: asyncpg.Connection, limits: dict[str, Any]
) -> AsyncIterator[Scene]:
    """The notifier's parts on a fresh database."""
    settings = sms_settings(database, **limits)
    pool = await open_sms_pool(settings)
    try:
        yield Scene(owner, pool, settings)
    finally:
        await close_pool(pool)
