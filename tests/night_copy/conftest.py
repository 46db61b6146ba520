"""A scene on this test's database."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.night_copy.scene import Scene, open_scene
from tests.support.databases import Database


@pytest.fixture
async def scene(database: Database) -> AsyncIterator[Scene]:
    """A core with dates and no accounts."""
    async with open_scene(database) as scene:
        yield scene
