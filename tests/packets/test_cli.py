"""`ni packet`, `ni core statement` and `ni worker` against a running NI."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from typer.testing import CliRunner, Result

from ni.cli import app
from ni.cli.support import output
from ni.errors import NiError
from ni.migrate import FOLDER
from ni.run_file import Run, write_run
from tests.packets.door import CASH, Door, fresh
from tests.support.caller import fresh_key

pytestmark = pytest.mark.asyncio(loop_scope="module")

COMMAND_SECONDS = 30
COLUMNS = 200


class Terminal:
    """A shell in the folder of a running NI whose clients are operator, approver, cash, other."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """The command line in a process of its own, begun."""
        return subprocess.Popen(
            [sys.executable, "-m", "ni", *arguments],
            cwd=FOLDER.parent,
            env=os.environ | {"NI_HOME": str(self.home)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    async def run(self, *arguments: str, **environment: str) -> str:
        """What a command prints, spaces and frames of tables made one space."""
        result = await self._invoke(arguments, environment)
        assert result.exit_code == 0, (result.output, result.exception)
        assert result.stderr == ""
        return re.sub(r"[^!-~]+", " ", result.stdout)

    async def refuse(self, *arguments: str, **environment: str) -> str:
        """Why a command fails."""
        result = await self._invoke(arguments, environment)
        assert isinstance(result.exception, NiError), (result.output, result.exception)
        assert result.output == ""
        return str(result.exception)

    async def _invoke(self, arguments: tuple[str, ...], environment: dict[str, str]) -> Result:
        variables = {"NI_HOME": str(self.home), "COLUMNS": str(COLUMNS)} | environment
        return await asyncio.to_thread(CliRunner().invoke, app, arguments, env=variables)


async def run_of(door: Door, packet: str) -> asyncpg.Record:
    """The row of a packet's only run."""
    [row] = await door.bank.owner.fetch("select * from ni.unload where packet = $1", packet)
    return row


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ni(door: Door, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Terminal]:
    """The terminal of the door's NI."""
    home = tmp_path_factory.mktemp("terminal")
    keys = {"cash": "cash", "other": "other", "operator": "root", "approver": "chief"}
    servers = door.servers
    run = Run(
        base_url=door.api.base_url,
        postgres_dsn=servers.owner_dsn,
        engine_dsn=servers.engine_dsn,
        core_dsn=servers.core_dsn,
        redis_url=servers.redis_url,
        keys={name: door.keys[client] for name, client in keys.items()},
        pid=os.getpid(),
    )
    write_run(home, run)
    width, output.width = output.width, COLUMNS  # the terminal's was read when it was imported
    yield Terminal(home)
    output.width = width


async def test_a_packet_is_unloaded_by_its_own_client(ni: Terminal, door: Door) -> None:
    packet = fresh("am")
    await door.post(await door.open(), "30.00", packet, reference="R-1", narrative="[rent]")
    shown = await ni.run("packet", "show", packet, "--client", "cash")
    assert f"packet {packet} of cash status open postings 1 pending totals 30.00 CZK" in shown
    assert await ni.run("packet", "unload", packet, "--client", "cash") == (
        f"packet {packet}, run 1: booked, 1 booked, 0 problems "
    )
    row = await run_of(door, packet)
    assert (row["client"], row["unloaded_by"]) == ("cash", "cash")
    shown = await ni.run("packet", "show", packet, "--client", "cash", "--postings", "all")
    assert "run at status booked problems 1 " in shown
    assert f" -> {CASH} 30.00 CZK, value date 2031-03-03 booked R-1 [rent] " in shown
    none = await ni.run("packet", "show", packet, "--as", "cash", "--postings", "problem")
    assert "[rent]" not in none


async def test_the_list_has_the_packets_of_all_clients(ni: Terminal, door: Door) -> None:
    packets = [fresh("am"), fresh("am")]
    for packet, client in zip(packets, ("cash", "other"), strict=True):
        await door.post(await door.open(), "30.00", packet, client)
    listed = await ni.run("packet", "list", "--limit", "10000")
    assert f" cash {packets[0]} open 1 pending 30.00 CZK 0 " in listed
    assert f" other {packets[1]} open 1 pending 30.00 CZK 0 " in listed
    assert packets[0] not in await ni.run("packet", "list", "--client", "other")
    assert packets[1] not in await ni.run("packet", "list", "--as", "cash")
    assert packets[0] not in await ni.run("packet", "list", "--status", "booked")
    first = await ni.run("packet", "list", "--limit", "1")
    assert first.count(" am-") == 1


async def test_a_packet_that_waits_is_accepted_by_the_approver(ni: Terminal, door: Door) -> None:
    packet = fresh("am")
    account = await door.open()
    await door.post(account, "30.00", packet)
    unload = ("packet", "unload", packet, "--client", "cash", "--not-accepted")
    assert ": awaiting_acceptance, 1 booked" in await ni.run(*unload)
    statement = await ni.run("core", "statement", account)
    assert f"-30.00 waiting cash {packet}, run 1 closing 1000.00" in statement
    refused = await ni.refuse("packet", "accept", packet, "--client", "cash", "--as", "cash")
    assert refused == "this needs the scope packet:accept"
    accepted = await ni.run("packet", "accept", packet, "--client", "cash", "--actor", "M. Dvorak")
    assert f"packet {packet}, run 1: booked, 1 booked, 0 problems" in accepted
    again = await ni.refuse("packet", "accept", packet, "--client", "cash")
    assert again == "The packet does not wait for acceptance"
    row = await run_of(door, packet)
    assert (row["decided_by"], row["actor"]) == ("chief", "M. Dvorak")
    statement = await ni.run("core", "statement", account)
    assert f"opening 1000.00 2031-03-03 2031-03-03 -30.00 970.00 cash {packet}, run 1" in statement


async def test_a_packet_that_waits_is_rejected(ni: Terminal, door: Door) -> None:
    packet = fresh("am")
    await door.post(await door.open(), "30.00", packet)
    await ni.run("packet", "unload", packet, "--client", "cash", "--not-accepted")
    reject = ("packet", "reject", packet, "--client", "cash", "--number", "1", "--reason", "twice")
    assert f"packet {packet}, run 1: rejected" in await ni.run(*reject)
    row = await run_of(door, packet)
    assert (row["decided_by"], row["reason"]) == ("chief", "twice")


async def test_problems_from_the_unload_to_their_end(ni: Terminal, door: Door) -> None:
    packet = fresh("bad")
    account, other = await door.open(), await door.open()
    posting = await door.post(account, "30.00", packet)
    await door.bank.block(account, "debit")
    shown = await ni.run("packet", "unload", packet, "--client", "cash")
    assert f"run 1: none_booked, 0 booked, 1 problems posting problem {posting}" in shown
    problem = f"account_blocked: {account}: order 7/1993"
    assert f"{posting} {problem}" in shown
    listed = await ni.run("packet", "problems", "--client", "cash")
    assert f"{posting} cash {packet}, run 1 {account} -> {CASH} 30.00 CZK {problem}" in listed
    assert posting not in await ni.run("packet", "problems", "--status", "resolved")
    resolve = ("packet", "resolve", posting)
    wrong = await ni.refuse(*resolve, "redirect", "--reason", "x")
    assert "redirect, and only redirect, names an account" in wrong
    assert "\n" not in wrong
    moved = await ni.run(
        *resolve, "redirect", "--debit-account", other, "--reason", "his other account"
    )
    assert f"posting {posting}: redirect; it is pending now, {other} -> {CASH}" in moved
    assert posting not in await ni.run("packet", "problems")
    resolved = await ni.run("packet", "problems", "--status", "all")
    assert "redirect by root: his other account" in resolved
    late = await ni.refuse(*resolve, "retry", "--reason", "x")
    assert late == "The problem has been resolved"


async def test_refusals_are_one_plain_line(ni: Terminal) -> None:
    for arguments, message in (
        (("show", "nothing", "--client", "cash"), "No such packet"),
        (("unload", "nothing", "--client", "cash"), "No such packet"),
        (("unload", "a/b ?#%", "--client", "cash"), "Nothing is here"),
        (("resolve", "x", "retry", "--reason", "x"), "No such posting"),
        (("unload", "nothing"), "say whose packet it is: --client NAME"),
        (("show", "nothing"), "say whose packet it is: --client NAME"),
    ):
        assert await ni.refuse("packet", *arguments) == f"{message}"
    listed = await ni.refuse("packet", "list", "--status", "shiny")
    assert "status must be one of open, awaiting_acceptance, problems, booked" in listed
    nobody = await ni.refuse("packet", "list", "--as", "nobody")
    assert "has no key of the client nobody" in nobody


async def test_without_run_json(ni: Terminal, door: Door, tmp_path: Path) -> None:
    elsewhere = Terminal(tmp_path)
    assert "NI does not run here" in await elsewhere.refuse("packet", "list")
    packet = fresh("am")
    await door.post(await door.open(), "30.00", packet)
    where = ("packet", "--base-url", door.api.base_url)
    mine = await elsewhere.run(*where, "show", packet, NI_KEY=door.keys["cash"])
    assert f"{packet} of cash" in mine
    wrong = await elsewhere.refuse(*where, "list", NI_KEY="nobody")
    assert wrong == "The API key is missing or unknown"
    away = ("packet", "--base-url", "http://127.0.0.1:1", "--key", "k", "list")
    assert "NI gave no answer (ConnectionRefusedError" in await elsewhere.refuse(*away)


async def test_a_statement_of_a_period(ni: Terminal, door: Door) -> None:
    account, packet = await door.open(), fresh("am")
    for amount in ("1.00", "2.00"):
        await door.post(account, amount, packet)
        await door.unload(packet)
    whole = await ni.run("core", "statement", account)
    assert whole.startswith(f"{account} business date value date amount CZK packet text opening ")
    assert "-1.00 999.00" in whole
    assert "-2.00 997.00" in whole
    newest = await ni.run("core", "statement", account, "--limit", "1")
    assert "opening 999.00" in newest
    before = await ni.run("core", "statement", account, "--to", "2031-03-03")
    assert "opening 1000.00 closing 1000.00" in before
    after = await ni.run("core", "statement", account, "--from", "2031-03-04")
    assert "opening 997.00 closing 997.00" in after
    assert await ni.refuse("core", "statement", "NOBODY") == "the core has no account NOBODY"


async def test_a_worker_in_the_foreground(ni: Terminal, door: Door) -> None:
    posting = {"debit_account": await door.open(), "credit_account": CASH, "amount": "1.00"}
    body: dict[str, Any] = posting | {"currency": "CZK", "straight_through": True}
    made = await door["cash"].post("/v1/postings", body, fresh_key())
    assert made.status == 201
    with ni.start("worker", "packets") as worker:
        try:
            await _until_booked(door, made.body["posting_id"])
        finally:
            worker.send_signal(signal.SIGTERM)
            worker.communicate(timeout=COMMAND_SECONDS)
    assert worker.returncode == 0


async def _until_booked(door: Door, posting: str) -> None:
    deadline = time.monotonic() + COMMAND_SECONDS
    while (await door["cash"].get(f"/v1/postings/{posting}")).body["status"] != "booked":
        assert time.monotonic() < deadline, "the worker does not unload it"


async def test_no_such_worker(ni: Terminal) -> None:
    with ni.start("worker", "typist") as process:
        output, errors = process.communicate(timeout=COMMAND_SECONDS)
    assert (process.returncode, output) == (2, "")
    assert errors.startswith("ni: name one worker: housekeeping, packets, ")


async def test_a_refusal_is_one_line_and_exit_code_1(ni: Terminal) -> None:
    with ni.start("packet", "unload", "nothing", "--client", "cash") as process:
        output, errors = process.communicate(timeout=COMMAND_SECONDS)
    assert (process.returncode, output, errors) == (1, "", "ni: No such packet\n")
