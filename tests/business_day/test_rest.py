"""The day through the REST door: scopes, keys, problems, and documents as they are described."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from api.answers import BusinessDayAnswer
from ni import night_copy
from ni.database import close_pool, open_pool
from ni.embedded import EmbeddedValkey
from ni.settings import Settings
from tests.business_day.house import core_held
from tests.packets.door import Door, fresh, open_door, refused
from tests.support.caller import Caller, fresh_key
from tests.support.databases import Database

DAY = "/v1/business-day"


@pytest.fixture
async def door(database: Database, valkey: EmbeddedValkey, tmp_path: Path) -> AsyncIterator[Door]:
    """An API process; besides the usual clients one that operates the day."""
    async with open_door(database.servers(valkey.url), tmp_path) as made:
        key = await made.bank.add_client("job", ("day:operate",))
        http = made["root"]._http
        made.callers["job"] = Caller(http, made.api.base_url, key)
        yield made


async def test_who_may_do_what(door: Door) -> None:
    """Any key sees how the day stands; closing and opening need their scope."""
    for path in (f"{DAY}/close", f"{DAY}/open"):
        assert refused(await door["cash"].post(path, {})) == (403, "scope_missing")
        assert refused(await door["narrow"].raw("POST", path, b"{}")) == (403, "scope_missing")
        assert refused(await door["job"].raw("POST", path, b"{}")) == (
            400, "idempotency_key_missing"
        )  # fmt: skip
        assert refused(await door["job"].post(path, {"more": 1})) == (422, "validation_failed")
    assert refused(await door["job"].post(f"{DAY}/close", {"require_unloaded": "yes"})) == (
        422, "validation_failed"
    )  # fmt: skip
    seen = await door["narrow"].get(DAY)
    assert (seen.status, seen.body["mode"]) == (200, "day")
    nobody = await door["narrow"].raw("GET", DAY, headers={"Authorization": "Bearer nobody"})
    assert nobody.status == 401
    assert (await door["job"].post(f"{DAY}/close", {})).status == 200
    assert (await door["root"].post(f"{DAY}/open", {})).status == 200


async def test_a_client_sees_its_own_packets_and_what_its_scopes_show(door: Door) -> None:
    """Other clients' packets and accounts' balances only with the scopes that open them."""
    [one] = [await door.open(balance=50)]
    await door.post(one, "0.10", "left")
    await door.post(one, "0.10", "other-s", client="other")
    await door["job"].post(f"{DAY}/close", {})
    await door.bank.owner.execute("update core.account set balance = -1 where account = $1", one)
    await door["job"].post(f"{DAY}/open", {})
    async with asyncio.timeout(10):
        while not (await door["job"].get(DAY)).body["accounts_below_limit"]:
            await resynchronise(door)
    for close in (False, True):
        if close:
            await door["job"].post(f"{DAY}/close", {})
        for client, packets, accounts in (
            ("job", ["left", "other-s"], 1), ("root", ["left", "other-s"], 1),
            ("cash", ["left"], 1), ("other", ["other-s"], 0), ("narrow", [], 1), ("chief", [], 0),
        ):  # fmt: skip
            body = (await door[client].get(DAY)).body
            BusinessDayAnswer.model_validate(body)
            shown = [packet["packet"] for packet in body["unfinished_packets"]]
            assert (shown, len(body["accounts_below_limit"])) == (packets, accounts), client


async def test_the_day_is_told_whatever_the_core_holds(door: Door, database: Database) -> None:
    """Reads of balances that wait for the core stand in nobody's way; a new key is known too."""
    account = await door.open()
    await door["narrow"].get(f"/v1/accounts/{account}/balance")
    async with core_held(database.owner_dsn):
        waiting = [
            asyncio.create_task(door["narrow"].get(f"/v1/accounts/{account}/balance"))
            for _ in range(60)
        ]
        await asyncio.sleep(0.3)
        key = await door.bank.add_client("newcomer", ("packet:unload",))
        newcomer = Caller(door["root"]._http, door.api.base_url, key)
        for _ in range(5):
            async with asyncio.timeout(1):
                seen = await newcomer.get(DAY)
            assert seen.status == 200, seen.content
            assert (seen.body["mode"], seen.body["business_date"]) == ("day", "2031-03-03")
        assert not all(task.done() for task in waiting)
    await asyncio.gather(*waiting)


async def resynchronise(door: Door) -> None:
    """What the worker does."""
    pool = await open_pool(Settings(database_url=door.servers.engine_dsn), "day", 1)
    try:
        await night_copy.resynchronise(pool, Settings())
    finally:
        await close_pool(pool)


async def test_close_open_and_status_show_one_document(door: Door) -> None:
    """As the description says, byte for byte."""
    account = await door.open()
    await door.post(account, "1.00", "left")
    closed = await door["job"].post(f"{DAY}/close", {})
    BusinessDayAnswer.model_validate(closed.body)
    assert closed.content == (await door["job"].get(DAY)).content
    assert closed.body["unfinished_packets"] == [
        {"client": "cash", "packet": "left", "status": "open"}
    ]
    balance = await door.balance(account)
    assert (balance["mode"], str(balance["epoch"])) == ("night", "2")
    assert balance["business_date"] == closed.body["business_date"] == "2031-03-04"
    opened = await door["job"].post(f"{DAY}/open", {})
    BusinessDayAnswer.model_validate(opened.body)
    assert opened.content == (await door["job"].get(DAY)).content
    assert (await door.balance(account))["mode"] == "day"


async def test_a_key_is_kept_and_a_passing_refusal_is_not(door: Door) -> None:
    account = await door.open()
    await door.post(account, "1.00", fresh("left"))
    key = fresh_key()
    wanted = {"require_unloaded": True}
    refusal = await door["job"].post(f"{DAY}/close", wanted, key)
    assert refused(refusal) == (409, "packets_unfinished")
    assert refusal.body["unfinished_packets"][0]["client"] == "cash"
    other = await door["job"].post(f"{DAY}/close", {}, key)
    assert other.status == 200, "nothing was kept under the key"
    assert refused(await door["job"].post(f"{DAY}/close", wanted, key)) == (
        422, "idempotency_key_reused"
    )  # fmt: skip
    again = await door["job"].post(f"{DAY}/close", {}, key)
    assert again.replayed
    assert again.content == other.content


async def test_a_copy_that_is_not_exact_is_told(door: Door) -> None:
    await door.bank.owner.execute("truncate core.block")
    async with core_held(door.servers.owner_dsn, "core.packet", "core.block"):
        refusal = await door["job"].post(f"{DAY}/close", {})
    assert refused(refusal) == (409, "night_copy_not_exact")
    assert refusal.body["changed_keys"] >= 1
    assert refusal.body["faults"] == []


async def test_missing_triggers_are_told(door: Door) -> None:
    """Somebody has switched them off: which, and nothing is closed."""
    await door.bank.owner.execute("alter table core.account disable trigger user")
    refusal = await door["job"].post(f"{DAY}/close", {})
    assert refused(refusal) == (409, "night_copy_not_exact")
    assert any("core.account" in fault for fault in refusal.body["faults"])
    assert "core.account" in refusal.body["detail"]


async def test_a_core_that_is_still_closed_is_told(door: Door, database: Database) -> None:
    await door["job"].post(f"{DAY}/close", {})
    async with core_held(database.owner_dsn):
        refusal = await door["job"].post(f"{DAY}/open", {})
    assert refused(refusal) == (409, "core_still_closed")
    assert "core." in refusal.body["detail"]


async def test_two_jobs_at_once_get_the_same_document(door: Door) -> None:
    answers = await asyncio.gather(*(door["job"].post(f"{DAY}/close", {}) for _ in range(5)))
    assert {answer.status for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1


async def test_metrics_tell_the_mode(door: Door) -> None:
    async def figures() -> dict[str, float]:
        text = (await door["root"].get("/metrics")).content.decode()
        lines = (line.split() for line in text.splitlines() if line.startswith(("ni_day", "ni_ni")))
        return {line[0]: float(line[1]) for line in lines}

    assert (await figures())["ni_day_night"] == 0
    await door["job"].post(f"{DAY}/close", {})
    await door.bank.owner.execute("update core.account set credit_limit = credit_limit + 1")
    found = await figures()
    assert (found["ni_day_night"], found["ni_day_epoch"]) == (1, 2)
    assert found["ni_night_copy_changed_keys"] == 1
    assert 0 <= found["ni_day_switch_seconds"] < 5


async def test_a_close_may_last_longer_than_any_decision(door: Door, database: Database) -> None:
    """The API's own limits let it wait for a run, and its caller hears the end."""
    account = await door.open()
    await door.post(account, "1.00", "slow")
    run = await asyncpg.connect(database.owner_dsn)
    try:
        await run.execute("begin")
        await run.execute("select * from ni.enter_unload_v1('cash', 'slow')")
        closing = asyncio.create_task(door["job"].post(f"{DAY}/close", {}))
        await asyncio.sleep(4)
        assert not closing.done()
        assert (await door["cash"].get(DAY)).body["unloading"] == 1
        await run.execute("rollback")
        assert (await closing).body["mode"] == "night"
    finally:
        await run.close()
