"""The edge tests share one world: a database with a clock, an API process, two clients."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ni.embedded import EmbeddedValkey
from tests.model.world import World, model_world
from tests.support.databases import Databases


@pytest.fixture(scope="module", params=[1, 8], ids="buckets-{}".format)
def world(
    request: pytest.FixtureRequest,
    databases: Databases,
    valkey: EmbeddedValkey,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[World]:
    """A world with 1 bucket and one with 8."""
    home = tmp_path_factory.mktemp("model")
    with (
        databases.fresh(request.param) as database,
        model_world(database.servers(valkey.url), home) as made,
    ):
        yield made
