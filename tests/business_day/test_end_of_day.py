"""The worker that closes and opens by schedule, and `ni day` in a terminal."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer.testing

from ni.cli import app
from ni.cli.support import output
from ni.embedded import EmbeddedValkey
from ni.errors import NiError
from ni.run_file import Run, write_run
from ni.schedule import schedule_of
from ni.settings import Settings
from ni.up import END_OF_DAY, Up
from tests.business_day.house import House, core_held, resynchronise
from tests.packets.door import Door, open_door
from tests.support.clock import install_clock, set_clock
from tests.support.databases import Database
from workers import end_of_day
from workers.end_of_day import LOOK_S, EndOfDay

PLAN: dict[str, Any] = {"open_time": "06:00", "close_time": "18:00", "weekend": ""}


def at(clock: str, day: int = 20) -> datetime:
    """An instant in November 2026."""
    hour, minute = clock.split(":")
    return datetime(2026, 11, day, int(hour), int(minute), tzinfo=UTC)


async def worker(house: House, now: datetime) -> EndOfDay:
    """A new worker, as after a crash, on a bank whose day has been opened at 06:00."""
    owner = house.world.owner
    await install_clock(owner)
    await set_clock(owner, now)
    await owner.execute("update ni.mode set since = $1 where epoch = 1", at("06:00"))
    return fresh_worker(house)


def fresh_worker(house: House) -> EndOfDay:
    plan = schedule_of(Settings(**PLAN))
    assert plan is not None
    return EndOfDay(house.day, plan)


async def test_it_closes_and_opens_when_it_is_time(house: House) -> None:
    """Once each; a worker that was killed in between goes on from the database."""
    owner = house.world.owner
    first = await worker(house, at("17:59"))
    assert await first.step() == LOOK_S
    assert await house.mode() == ("day", 1)
    await set_clock(owner, at("18:00"))
    await first.step()
    assert await house.mode() == ("night", 2)
    for look in (at("18:01"), at("23:59"), at("05:59", 21)):
        await set_clock(owner, look)
        await fresh_worker(house).step()
        assert await house.mode() == ("night", 2)
    await set_clock(owner, at("06:00", 21))
    await fresh_worker(house).step()
    assert await house.mode() == ("day", 3)
    assert await house.switches() == [(2, "night"), (3, "day")]


async def test_what_a_person_has_decided_since_stands(house: House) -> None:
    """Opened again in the evening: not closed twice. Closed at noon: not opened before its time."""
    owner = house.world.owner
    job = await worker(house, at("18:00"))
    await job.step()
    await set_clock(owner, at("19:00"))
    await house.open()
    await job.step()
    assert await house.mode() == ("day", 3)
    await set_clock(owner, at("12:00", 21))
    await job.step()
    assert await house.mode() == ("day", 3)
    await house.close()
    await job.step()
    assert await house.mode() == ("night", 4)
    await set_clock(owner, at("06:00", 22))
    await job.step()
    assert await house.mode() == ("day", 5)


@pytest.mark.parametrize("limits", [{"night_copy_close_ms": 0}])
async def test_what_passes_is_asked_again_with_pauses(house: House) -> None:
    """The copy is not exact, then the core is still closed; in the end each is done once."""
    job = await worker(house, at("18:00"))
    await house.world.owner.execute("truncate core.block")
    pauses = [await job.step() for _ in range(3)]
    assert pauses == [1.0, 2.0, 4.0]
    assert await house.mode() == ("day", 1)
    await resynchronise(house)
    await job.step()
    assert await house.mode() == ("night", 2)
    await set_clock(house.world.owner, at("06:00", 21))
    async with core_held(house.world.database.owner_dsn):
        pauses = [await job.step() for _ in range(6)]
        assert pauses[-1] <= 10.0
        assert await house.mode() == ("night", 2)
    await job.step()
    assert await house.mode() == ("day", 3)


async def test_two_workers_do_it_once(house: House) -> None:
    await worker(house, at("18:00"))
    await asyncio.gather(*(fresh_worker(house).step() for _ in range(3)))
    assert await house.switches() == [(2, "night")]


async def test_it_runs_until_it_is_stopped(house: House) -> None:
    await worker(house, at("18:00"))
    stop = asyncio.Event()
    settings = house.world.settings.model_copy(update=PLAN)
    working = asyncio.create_task(end_of_day.run(settings, stop))
    async with asyncio.timeout(10):
        while (await house.mode())[0] == "day":
            await asyncio.sleep(0.05)
    stop.set()
    await asyncio.wait_for(working, 5)


async def test_without_a_schedule_it_says_what_to_set(house: House) -> None:
    with pytest.raises(NiError, match="NI_CLOSE_TIME"):
        await end_of_day.run(house.world.settings, asyncio.Event())


@pytest.mark.parametrize(("plan", "starts"), [({}, False), (PLAN, True)], ids=["none", "set"])
def test_it_is_started_with_the_rest_where_a_schedule_is_set(
    tmp_path: Path, plan: dict[str, Any], starts: bool
) -> None:
    up = Up(Settings(home=tmp_path, **plan), tell=lambda _line: None)
    assert (END_OF_DAY in up.workers()) is starts


def test_a_wrong_schedule_ends_the_start(tmp_path: Path) -> None:
    with pytest.raises(NiError, match="NI_OPEN_TIME"):
        Up(Settings(home=tmp_path, close_time="18:00"), tell=lambda _line: None)


# The terminal ---------------------------------------------------------------------------------


class Terminal:
    """`ni` in a folder where NI runs with one key, the operator's."""

    def __init__(self, door: Door, home: Path, patch: pytest.MonkeyPatch) -> None:
        run = Run(
            base_url=door.api.base_url, postgres_dsn="", engine_dsn="", core_dsn="", redis_url="",
            keys={"operator": door.keys["root"]}, pid=1,
        )  # fmt: skip
        write_run(home, run)
        patch.setenv("NI_HOME", str(home))
        patch.setattr(output, "width", 200)

    async def run(self, *words: str) -> str:
        """What it prints, frames and spaces made one space; its refusal, if it is one."""
        result = await asyncio.to_thread(typer.testing.CliRunner().invoke, app, words)
        if isinstance(result.exception, NiError):
            return f"refused: {result.exception}"
        assert result.exit_code == 0, result.output
        return re.sub(r"[\s│┃┏┓┗┛━─┌┐└┘├┤┬┴┼╇╈┡┩╭╮╰╯]+", " ", result.output)


async def test_a_night_in_a_terminal(
    database: Database, valkey: EmbeddedValkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_door(database.servers(valkey.url), tmp_path) as door:
        terminal = Terminal(door, tmp_path, monkeypatch)
        account = await door.open(balance=1_00)
        await door.post(account, "0.50", "cash-am")
        assert "mode day, epoch 1" in await terminal.run("day", "status")
        refusal = await terminal.run("day", "close", "--require-unloaded")
        assert refusal.startswith("refused: 1 packet is unfinished")
        night = await terminal.run("day", "close")
        assert "mode night, epoch 2" in night
        assert "cash cash-am open" in night
        assert "business date 2031-03-04" in night
        assert "exact" in night
        async with core_held(database.owner_dsn):
            refusal = await terminal.run("day", "open")
        assert "the core still holds core." in refusal
        await door.bank.owner.execute("update core.account set balance = balance - 100")
        assert "mode day, epoch 3" in await terminal.run("day", "open")
        await door.bank.owner.fetchval(
            "select ni.note_below_limit_v1(ni.bucket_of($1), array[$1])", account
        )
        day = await terminal.run("day", "status")
        assert f"{account} -0.50 0.00" in day
        assert "lacks" in day
