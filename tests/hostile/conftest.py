"""The hostile tests of a file share one API process and one database."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from ni.embedded import EmbeddedValkey
from tests.hostile.scene import Scene, hostile_scene
from tests.support.databases import Databases


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(
    databases: Databases, valkey: EmbeddedValkey, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Scene]:
    """A running API with two accounts, a hold and a posting."""
    home = tmp_path_factory.mktemp("hostile")
    with databases.fresh() as database:
        async with hostile_scene(database.servers(valkey.url), home) as made:
            yield made
