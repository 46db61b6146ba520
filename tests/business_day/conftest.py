"""A house for each test; a test parametrizes `limits` to choose its settings."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import structlog

from ni.logs import configure_logs
from tests.business_day.house import House, open_house
from tests.support.databases import Database


@pytest.fixture(autouse=True)
def _logs() -> Iterator[None]:
    """As a process of NI logs; the library's coloured tracebacks take seconds."""
    configure_logs("error")
    yield
    structlog.reset_defaults()


@pytest.fixture
def limits() -> dict[str, Any]:
    """Settings that differ from the defaults."""
    return {}


@pytest.fixture
async def house(database: Database, limits: dict[str, Any]) -> AsyncIterator[House]:
    """A bank by day, on a fresh database."""
    async with open_house(database, **limits) as opened:
        yield opened
