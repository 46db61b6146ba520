"""What must hold when a replay has unloaded everything: NI owes the core nothing, both agree.

NI is asked through its REST door, the core through its own tables.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Final

import asyncpg

from ni.errors import NiError
from ni.money import format_amount, parse_balance
from ni.replay.report import Outcome, ReplayReport
from ni.replay.sender import Sender
from ni.replay.statement import Survey
from ni.replay.unloading import unload
from ni.sql import query

ASKED_AT_ONCE: Final = 16
_PAGE: Final = 500
_OK: Final = 200


async def pending(sender: Sender, accounts: Iterable[str], currency: str) -> dict[str, int]:
    """What NI has accepted and the core has not booked, of each account, in minor units.

    Raises NiError as the sender does, and when an answer is not NI's.
    """
    gate = asyncio.Semaphore(ASKED_AT_ONCE)

    async def one(account: str) -> tuple[str, int]:
        async with gate:
            document = await _document(sender, f"/v1/accounts/{account}/balance")
        return account, parse_balance(str(document.get("pending")), currency)

    return dict(await asyncio.gather(*(one(account) for account in accounts)))


async def check(
    sender: Sender,
    core: asyncpg.Connection,
    survey: Survey,
    report: ReplayReport,
    before: Mapping[str, int],
) -> None:
    """Unload what is left, then compare both sides and put the outcome into the report.

    `before` is what other systems had pending on the bank's own accounts when the replay began,
    which they may have still. Raises NiError as the sender does.
    """
    report.outcome = outcome = Outcome(packets=len(survey.packets))
    packets = await _unload_the_rest(sender, survey, report)
    _check_packets(packets, survey, report, outcome)
    await _check_pending(sender, survey, report, outcome, before)
    await _check_balances(core, survey, report, outcome)
    client = next((str(packet["client"]) for packet in packets.values()), "")
    row = await core.fetchrow(query("core_packet_totals"), client, sorted(survey.packets))
    if row is not None:
        outcome.debits, outcome.credits = row["debits"], row["credits"]
    if not outcome.posted == outcome.debits == outcome.credits:
        report.fault("totals", "debits and credits of NI and the core are not the same")


async def _unload_the_rest(
    sender: Sender, survey: Survey, report: ReplayReport
) -> dict[str, Mapping[str, Any]]:
    """The file's packets by name, after what an earlier run has left in them is unloaded."""
    packets = await _packets(sender, survey)
    left = [packet for packet in packets.values() if packet["counts"]["pending"]]
    for packet in left:
        last_run = max((run["number"] for run in packet["unloads"]), default=0)
        await unload(sender, survey, report, packet["packet"], after_run=last_run)
    return await _packets(sender, survey) if left else packets


async def _packets(sender: Sender, survey: Survey) -> dict[str, Mapping[str, Any]]:
    wanted = survey.packets
    found: dict[str, Mapping[str, Any]] = {}
    token = ""
    while True:
        page = await _document(sender, f"/v1/packets?page_size={_PAGE}{token}")
        found |= {one["packet"]: one for one in page["items"] if one["packet"] in wanted}
        if "next_page_token" not in page:
            return found
        token = f"&page_token={page['next_page_token']}"


def _check_packets(
    packets: Mapping[str, Mapping[str, Any]],
    survey: Survey,
    report: ReplayReport,
    outcome: Outcome,
) -> None:
    for name in sorted(survey.packets):
        packet = packets.get(name)
        status = "unknown to NI" if packet is None else packet["status"]
        if packet is not None:
            outcome.problems += packet["counts"]["problem"]
            posted = packet["totals"].get(survey.currency, "0")
            outcome.posted += parse_balance(posted, survey.currency)
        if status != "booked":
            outcome.unbooked_packets += 1
            report.fault("unbooked", f"packet {name}: {status}")


async def _check_pending(
    sender: Sender,
    survey: Survey,
    report: ReplayReport,
    outcome: Outcome,
    before: Mapping[str, int],
) -> None:
    accounts = [*survey.accounts, *survey.internal_accounts]
    outcome.accounts = len(accounts)
    for account, minor in (await pending(sender, accounts, survey.currency)).items():
        if minor not in (0, before.get(account, 0)):
            outcome.pending_accounts += 1
            shown = format_amount(minor, survey.currency)
            report.fault("pending", f"{account}: {shown} is pending still")


async def _check_balances(
    core: asyncpg.Connection, survey: Survey, report: ReplayReport, outcome: Outcome
) -> None:
    accounts = sorted(survey.accounts)
    for first in range(0, len(accounts), _PAGE):
        names = accounts[first : first + _PAGE]
        rows = await core.fetch(query("core_account_read"), names)
        found = {row["account"]: row["balance"] for row in rows}
        for name in names:
            closing = survey.accounts[name].closing
            if found.get(name) != closing:
                outcome.different_balances += 1
                report.fault(
                    "balance",
                    f"{name}: the statement ends with {format_amount(closing, survey.currency)}, "
                    f"the core has {_shown(found.get(name), survey.currency)}",
                )


def _shown(minor: int | None, currency: str) -> str:
    return "no such account" if minor is None else format_amount(minor, currency)


async def _document(sender: Sender, path: str) -> Mapping[str, Any]:
    answer = await sender.get(path)
    if answer.status != _OK:
        raise NiError(f"{path}: {answer.document.get('detail', f'HTTP {answer.status}')}")
    return answer.document
