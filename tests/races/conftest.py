"""The races share two API processes and one database, with 1 bucket and with 8."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from ni.embedded import EmbeddedValkey
from tests.races.arena import Arena, open_arena
from tests.support.databases import Databases


@pytest_asyncio.fixture(
    scope="session", loop_scope="session", params=[1, 8], ids="buckets-{}".format
)
async def arena(
    request: pytest.FixtureRequest,
    databases: Databases,
    valkey: EmbeddedValkey,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Arena]:
    """Two processes, one with its clock 200 ms ahead."""
    home = tmp_path_factory.mktemp("races")
    with databases.fresh(request.param) as database:
        async with open_arena(database, valkey.url, home) as made:
            yield made
