"""A desk with packets: an engine, a world of accounts and the way to the core; and a REST door."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from ni.embedded import EmbeddedValkey
from tests.packets.desk import Desk, open_desk
from tests.packets.door import Door, open_door
from tests.support.databases import Database, Databases


@pytest.fixture
async def desk(database: Database) -> AsyncIterator[Desk]:
    """A desk on this test's database."""
    async with open_desk(database) as desk:
        yield desk


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def door(
    databases: Databases, valkey: EmbeddedValkey, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Door]:
    """The API that all tests of a file call."""
    home = tmp_path_factory.mktemp("packets")
    with databases.fresh() as database:
        async with open_door(database.servers(valkey.url), home) as made:
            yield made
