"""A desk with packets: an engine, a world of accounts and the way to the core."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.packets.desk import Desk, open_desk
from tests.support.databases import Database


@pytest.fixture
async def desk(database: Database) -> AsyncIterator[Desk]:
    """A desk on this test's database."""
    async with open_desk(database) as desk:
        yield desk
