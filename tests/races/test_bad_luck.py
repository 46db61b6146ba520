"""Bad luck that is not a crash: stopped processes, lost sessions, a dead cache, a full sum."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
import redis

from ni.embedded import EmbeddedValkey
from tests.races.arena import CASH, Arena, debit, hold, made
from tests.support.api_process import ApiProcess, Servers
from tests.support.bank import CoreAccount
from tests.support.caller import Caller, assert_problem, fresh_key, http_client
from tests.support.wire import NO_ANSWER
from tests.torture.load import Load, torture_accounts

pytestmark = pytest.mark.asyncio(loop_scope="session")

FREE_SECONDS = 2.5
BIG = 10**17


def is_stopped(process_id: int) -> bool:
    """Whether the process is stopped by a signal."""
    stat = Path(f"/proc/{process_id}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] == "T"


async def test_a_stopped_process_frees_its_accounts(arena: Arena, tmp_path: Path) -> None:
    """It stops with the account locked; another process decides on the account soon after."""
    (name,) = await arena.open_accounts(1, balance=100_00)
    trigger = tmp_path / "trigger"
    environment = {"NI_TEST_TRIGGER": str(trigger)}
    key = await arena.bank.add_client("stopped")
    servers = arena.apis[0].servers
    with ApiProcess(servers, tmp_path, "tests.support.killable_api", environment) as api:
        async with http_client() as http:
            caller = Caller(http, api.base_url, key)
            made(await caller.post("/v1/postings", debit(name, "1.00")))
            trigger.write_text("locked 1 STOP")
            own = fresh_key()
            left = asyncio.create_task(caller.post("/v1/postings", debit(name, "2.00"), own))
            assert api.process is not None
            while not is_stopped(api.process.pid):  # a process has no event
                await asyncio.sleep(0.01)  # a process has no event to wait for
            began = time.monotonic()
            made(await arena.callers[0].post("/v1/postings", debit(name, "4.00")))
            assert time.monotonic() - began < FREE_SECONDS
            api.kill(signal.SIGCONT)
            answer = await left
            if answer.status == 503:
                answer = await caller.post("/v1/postings", debit(name, "2.00"), own)
            made(answer)
            assert await arena.available(name) == 93_00
    await arena.assert_sound()


async def test_lost_sessions(arena: Arena) -> None:
    """PostgreSQL ends NI's sessions again and again: no 500, nothing lost, nothing twice."""
    caller = arena.callers[0]
    names = await arena.open_accounts(4, balance=500_00)

    async def work(name: str) -> None:
        for _ in range(40):
            key = fresh_key()
            answer = await caller.post("/v1/postings", debit(name, "1.00"), key)
            while answer.status == 503:
                assert "retry-after" in answer.headers
                await asyncio.sleep(0.05)
                answer = await caller.post("/v1/postings", debit(name, "1.00"), key)
            assert answer.status == 201, answer.content

    async def cut() -> None:
        while True:
            await asyncio.sleep(0.05)
            await arena.cut_sessions()

    cutting = asyncio.create_task(cut())
    try:
        await asyncio.gather(*(work(name) for name in names))
    finally:
        cutting.cancel()
        with suppress(asyncio.CancelledError):
            await cutting
    assert [await arena.available(name) for name in names] == [460_00] * 4
    await arena.assert_sound()


async def test_one_sum_out_of_range_fails_alone(arena: Arena) -> None:
    """A command that cannot be decided refuses itself, not those who share its transaction."""
    rich, poor = "RICH-1", "POOR-1"
    accounts = [CoreAccount(rich, balance=BIG - 5), CoreAccount(poor, balance=1000_00)]
    await arena.bank.open_accounts(accounts)
    calls = []
    for turn in range(40):
        body = debit(CASH, "1.00", credit=rich) if turn % 5 == 2 else debit(poor, "1.00")
        calls.append(arena.callers[0].post("/v1/postings", body))
    answers = await asyncio.gather(*calls)
    for turn, answer in enumerate(answers):
        if turn % 5 == 2:
            assert_problem(answer, "amount_out_of_range")
            assert (answer.status, answer.body["account"]) == (409, rich)
        else:
            made(answer)
    assert await arena.available(poor) == 1000_00 - 32_00
    assert await arena.available(rich) == BIG - 5
    await arena.assert_sound()


async def test_a_cache_that_is_not_there(arena: Arena, tmp_path: Path) -> None:
    """Valkey dead from the start: NI serves all the same."""
    (name,) = await arena.open_accounts(1, balance=100_00)
    servers = arena.apis[0].servers
    dead = Servers(servers.owner_dsn, servers.engine_dsn, servers.core_dsn, "redis://127.0.0.1:1/0")
    key = await arena.bank.add_client("uncached")
    with ApiProcess(dead, tmp_path) as api:
        async with http_client() as http:
            caller = Caller(http, api.base_url, key)
            for _ in range(5):
                began = time.monotonic()
                made(await caller.post("/v1/postings", debit(name, "1.00")))
                assert time.monotonic() - began < 1
    assert await arena.available(name) == 95_00


async def test_a_cache_flushed_poisoned_and_killed(
    arena: Arena, home: Path, tmp_path: Path
) -> None:
    """Whatever happens to Valkey changes speed at most, never an answer."""
    (name,) = await arena.open_accounts(1, balance=100_00)
    valkey = EmbeddedValkey(home)
    await asyncio.to_thread(valkey.start)
    servers = arena.apis[0].servers
    own = Servers(servers.owner_dsn, servers.engine_dsn, servers.core_dsn, valkey.url)
    key = await arena.bank.add_client("cached")
    with ApiProcess(own, tmp_path) as api, redis.Redis.from_url(valkey.url) as cache:
        async with http_client() as http:
            caller = Caller(http, api.base_url, key)
            for spoil in (cache.flushall, lambda: poison(cache), lambda: kill(valkey)):
                made(await caller.post("/v1/postings", debit(name, "1.00")))
                spoil()
                for _ in range(5):
                    began = time.monotonic()
                    made(await caller.post("/v1/postings", debit(name, "1.00")))
                    assert time.monotonic() - began < 1
    assert await arena.available(name) == 82_00


def poison(cache: redis.Redis) -> None:
    """Every value becomes one that nobody wrote."""
    for name in cache.keys("*"):
        cache.set(name, b"\xff\x00 not a number")


def kill(valkey: EmbeddedValkey) -> None:
    os.kill(valkey.pid, signal.SIGKILL)


async def test_a_load_with_every_operation_adds_up(arena: Arena) -> None:
    """Postings, holds, captures, releases and cancels on few accounts, through two processes."""
    await arena.bank.open_accounts(torture_accounts())
    loads = [Load(caller) for caller in arena.callers]
    await asyncio.gather(*(load.run(1.5) for load in loads))
    for load in loads:
        assert load.faults == []
        assert load.acknowledged
    await arena.assert_sound()


async def test_a_full_queue_says_so(arena: Arena, tmp_path: Path) -> None:
    """What there is no room for is refused at once with Retry-After; its key can be used again."""
    (name,) = await arena.open_accounts(1, balance=300_00)
    key = await arena.bank.add_client("crowd")
    small = {"NI_QUEUE_MAX": "6"}
    bodies = [(debit(name, "1.00"), fresh_key()) for _ in range(120)]
    with ApiProcess(arena.apis[0].servers, tmp_path, extra_environment=small) as api:
        async with http_client(connections=120) as http:
            caller = Caller(http, api.base_url, key)
            posts = [caller.post("/v1/postings", body, one) for body, one in bodies]
            answers = await asyncio.gather(*posts)
            full = [answer for answer in answers if answer.status == 503]
            assert full
            for answer in full:
                assert_problem(answer, "overloaded")
                assert int(answer.headers["retry-after"]) >= 1
            for body, one in bodies:
                made(await caller.post("/v1/postings", body, one))
    assert await arena.available(name) == 180_00
    await arena.assert_sound()


async def test_a_core_that_locks_its_tables_by_day(arena: Arena) -> None:
    """NI does not hang with it: 503 within the deadline, and service as soon as it lets go."""
    (name,) = await arena.open_accounts(1, balance=10_00)
    caller, owner = arena.callers[0], arena.bank.owner
    async with owner.transaction():
        await owner.execute("lock table core.account in access exclusive mode")
        began = time.monotonic()
        answers = await asyncio.gather(
            caller.post("/v1/postings", debit(name, "1.00")),
            caller.get(f"/v1/accounts/{name}/balance"),
        )
        assert time.monotonic() - began < 5
        for answer in answers:
            assert_problem(answer, "overloaded")
            assert "retry-after" in answer.headers
    made(await caller.post("/v1/postings", debit(name, "1.00")))
    assert await arena.available(name) == 9_00


async def test_a_client_that_hangs_up(arena: Arena) -> None:
    """It goes before its answer: the decision is whole or not there, and the key tells."""
    (name,) = await arena.open_accounts(1, balance=100_00)
    caller = arena.callers[0]
    keys = [fresh_key() for _ in range(20)]
    for number, key in enumerate(keys):
        async with http_client(timeout_seconds=0.0005 + 0.0003 * number) as http:
            with suppress(*NO_ANSWER):
                await caller.over(http).post("/v1/holds", hold(name, "1.00"), key)
    answers = [await caller.post("/v1/holds", hold(name, "1.00"), key) for key in keys]
    ids = {made(answer)["hold_id"] for answer in answers}
    assert len(ids) == len(keys)
    assert await arena.available(name) == 80_00
    await arena.assert_sound()
