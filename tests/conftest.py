"""Real servers for all tests: one PostgreSQL, Valkey and RabbitMQ a run, shared by its processes.

  database       a fresh migrated database, with `buckets` buckets (parametrize `buckets` to choose)
  new_database   makes more of them: new_database(buckets=8)
  databases      the same for fixtures of a wider scope: with databases.fresh(8) as database
  valkey         the run's Valkey; what a test writes there others see
  broker         the run's RabbitMQ, or the one that NI_TEST_AMQP_URL names
  amqp           a virtual host of this test alone on it
  servers        the addresses of `database` and `valkey`, as an API process takes them
  home           an empty $NI_HOME for tests that start servers of their own

The servers keep PostgreSQL's defaults of durability.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ni.embedded import EmbeddedPostgres, EmbeddedValkey
from tests.support.api_process import Servers
from tests.support.broker import Broker, VirtualHost
from tests.support.databases import Database, Databases
from tests.support.homes import (
    new_home,
    remove_abandoned,
    remove_home,
    temporary_home,
    use_memory,
)

RUN_HOME = "NI_TEST_RUN_HOME"
KEPT = ("NI_TEST_", "NI_TORTURE", "NI_EMBEDDED_")
LONGEST = ("tests/ledger/test_replay.py", "tests/bench/", "tests/torture/", "tests/events/")
"""Files whose tests take long: begun last, one of them would go on alone on its core."""


def pytest_configure(config: pytest.Config) -> None:
    """The first process of a run makes its folder; the others find it in the environment."""
    for name in list(os.environ):
        if name.startswith("NI_") and not name.startswith(KEPT):
            del os.environ[name]
    if not hasattr(config, "workerinput"):
        remove_abandoned()
        use_memory()
        # What a script began in the background ignores Ctrl-C; what the tests begin must not.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ[RUN_HOME] = str(new_home())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first; the others keep their order."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))


def pytest_unconfigure(config: pytest.Config) -> None:
    """The first process of a run stops what any of them has started."""
    if not hasattr(config, "workerinput") and RUN_HOME in os.environ:
        remove_home(Path(os.environ.pop(RUN_HOME)))


@pytest.fixture(scope="session")
def postgres() -> EmbeddedPostgres:
    """The run's PostgreSQL, started by whichever test process needs it first."""
    server = EmbeddedPostgres(Path(os.environ[RUN_HOME]))
    server.start()
    return server


@pytest.fixture(scope="session")
def valkey() -> EmbeddedValkey:
    """The run's Valkey."""
    server = EmbeddedValkey(Path(os.environ[RUN_HOME]))
    server.start()
    return server


@pytest.fixture(scope="session")
def broker() -> Broker:
    """The run's RabbitMQ, started by whichever test process needs it first."""
    return Broker.of_run(Path(os.environ[RUN_HOME]))


@pytest.fixture
def amqp(broker: Broker) -> Iterator[VirtualHost]:
    """A virtual host of this test alone, dropped with all that is in it."""
    with broker.virtual_host() as fresh:
        yield fresh


@pytest.fixture(scope="session")
def databases(postgres: EmbeddedPostgres) -> Databases:
    """Makes databases for fixtures of module or session scope."""
    return Databases(postgres, Path(os.environ[RUN_HOME]))


@pytest.fixture
def new_database(databases: Databases) -> Iterator[Callable[..., Database]]:
    """Makes databases that are closed when the test has ended."""
    with ExitStack() as stack:
        yield lambda buckets=1: stack.enter_context(databases.fresh(buckets))


@pytest.fixture
def buckets() -> int:
    """The number of buckets of `database`; a test parametrizes it to choose another."""
    return 1


@pytest.fixture
def database(new_database: Callable[..., Database], buckets: int) -> Database:
    """A fresh migrated database of this test alone."""
    return new_database(buckets)


@pytest.fixture
def servers(database: Database, valkey: EmbeddedValkey) -> Servers:
    """Where an API process finds this test's database and the run's Valkey."""
    return database.servers(valkey.url)


@pytest.fixture
def home() -> Iterator[Path]:
    """An empty $NI_HOME whose servers are stopped and whose data are removed afterwards."""
    with temporary_home() as folder:
        yield folder
