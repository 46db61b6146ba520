"""Plays scenarios: a core ledger, the clients of the demo, and the real API on a real database."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import asyncpg

from ni.core_end_of_day import Charges
from ni.decisions import NOT_STORED, Decision
from ni.demo import CLIENTS
from ni.money import parse_balance
from tests.scenarios.backstage import Backstage, open_backstage
from tests.scenarios.script import CORE, Scenario, Step
from tests.support.api_process import ApiProcess
from tests.support.bank import Bank
from tests.support.caller import Answer, Caller, fresh_key, http_client
from tests.support.clock import install_clock, set_clock
from tests.support.databases import Database

_EMPTY: Final = (Path(__file__).parent / "empty.sql").read_text()
_PATHS: Final = {
    "debit": "/v1/postings",
    "hold": "/v1/holds",
    "capture": "/v1/holds/{id}/capture",
    "release": "/v1/holds/{id}/release",
    "adjust": "/v1/holds/{id}/adjust",
    "cancel": "/v1/postings/{id}/cancel",
    "unload": "/v1/packets/{id}/unload",
    "accept": "/v1/packets/{id}/accept",
    "reject": "/v1/packets/{id}/reject",
    "resolve": "/v1/problems/{id}/resolve",
    "close": "/v1/business-day/close",
    "open": "/v1/business-day/open",
}


class Stage:
    """One API process and its database; scenarios are played on it one after the other."""

    def __init__(self, bank: Bank, callers: Mapping[str, Caller], backstage: Backstage) -> None:
        self._bank = bank
        self._backstage = backstage
        self._callers = callers
        self._named: dict[str, str] = {}
        self._said: list[tuple[Step, str, bytes, str, Answer]] = []

    async def play(self, scenario: Scenario) -> None:
        """Every step must be answered as the scenario says; afterwards all figures add up."""
        await self._bank.owner.execute(_EMPTY)
        await self._bank.open_ledger(scenario.business_date, scenario.next_business_date)
        await self._bank.open_accounts(scenario.accounts)
        self._named, self._said = {}, []
        for step in scenario.steps:
            await set_clock(self._bank.owner, step.at)
            if step.who == CORE:
                await self._core_does(scenario, step)
            elif step.verb == "unloads":
                await self._backstage.unload_straight_through()
            elif step.verb == "resynchronises":
                await self._backstage.make_copy_exact()
            else:
                await self._client_does(step)
        await self._everything_is_said_again()
        faults = await self._bank.faults()
        assert [fault for fault in faults if not fault.endswith("is below its limit")] == []

    async def _core_does(self, scenario: Scenario, step: Step) -> None:
        if step.verb == "blocks":
            await self._bank.block(step.target, step.body["side"])
        elif step.verb == "unblocks":
            await self._bank.unblock(step.target)
        elif step.verb == "closes":
            await self._bank.close_account(step.target)
        elif step.verb == "ends":
            fee_minor = parse_balance(step.body.get("fee", "0"), Charges().currency)
            await self._backstage.end_the_day(Charges(fee_minor=fee_minor))
        else:
            (account,) = [one for one in scenario.accounts if one.account == step.target]
            limit = parse_balance(step.body["credit_limit"], account.currency)
            await self._bank.set_money(step.target, account.balance, limit)

    async def _client_does(self, step: Step) -> None:
        if step.verb == "again":
            await self._said_again(step)
            return
        answer = await self._ask(step)
        outcome = "approved" if answer.status < 400 else f"refused {answer.code}"
        assert outcome == step.outcome, f"{step.line}\n{answer.content.decode()}"
        body = answer.body
        known = facts(body) | self._problems(body)
        found = {name: value for name, value in known.items() if name in step.facts}
        assert found == step.facts, f"{step.line}\n{answer.content.decode()}"
        if step.name:
            self._named[step.name] = body.get("posting_id") or body["hold_id"]

    async def _ask(self, step: Step) -> Answer:
        caller = self._callers[step.who]
        if step.verb == "close":
            await self._backstage.make_copy_exact()
        if step.verb == "ask":
            return await caller.get("/v1/business-day")
        if step.verb == "balance":
            return await caller.get(f"/v1/accounts/{step.target}/balance")
        if step.verb == "show":
            answer = await caller.get(f"/v1/holds/{self._named[step.target]}")
            if answer.status != 404:
                return answer
            return await caller.get(f"/v1/postings/{self._named[step.target]}")
        of, body = step.body.get("of"), {k: v for k, v in step.body.items() if k != "of"}
        query = {} if of is None else {"client": of}
        if step.verb == "packet":
            return await caller.get(f"/v1/packets/{step.target}", **query)
        path = _PATHS[step.verb].format(id=self._named.get(step.target, step.target))
        path += f"?{urlencode(query)}" if query else ""
        content, key = json.dumps(body).encode(), fresh_key()
        answer = await caller.send(path, content, key)
        self._said.append((step, path, content, key, answer))
        return answer

    def _problems(self, body: Mapping[str, Any]) -> dict[str, str]:
        """The problems that a run answers with, by the names that steps gave to the postings."""
        names = {identifier: name for name, identifier in self._named.items()}
        raised = body.get("problems", ()) if "problems_total" in body else ()
        found = {f"problem {names[one['posting_id']]}": one["code"] for one in raised}
        return found | {"problems": str(len(raised))}

    async def _said_again(self, step: Step) -> None:
        """The same bytes under the same key get the same bytes back, and say so."""
        first, path, content, key, answer = self._said[-1]
        again = await self._callers[first.who].send(path, content, key)
        same = (again.status, again.content, again.replayed)
        assert step.outcome == "same answer"
        assert same == (answer.status, answer.content, True), step.line

    async def _everything_is_said_again(self) -> None:
        """At the end of the day every request is replayed: each has its first answer, no effect.

        The first time holds that have expired meanwhile may be swept; after that nothing changes.
        """
        await self._replay()
        before = await self._bank.fingerprint()
        await self._replay()
        assert await self._bank.fingerprint() == before

    async def _replay(self) -> None:
        for step, path, content, key, answer in self._said:
            if answer.code is None or Decision[answer.code] not in NOT_STORED:
                again = await self._callers[step.who].send(path, content, key)
                assert (again.content, again.replayed) == (answer.content, True), step.line


def facts(body: Mapping[str, Any]) -> dict[str, str]:
    """What a scenario may ask of an answer, by name; null is `none`."""
    body = body.get("posting", body)
    hold = body.get("hold", body)
    debit, credit = body.get("debit", {}), body.get("credit", {})
    found = {
        "available": body.get("available_after", debit.get("available_after")),
        "credit available": credit.get("available_after"),
        "sequence": body.get("sequence", debit.get("sequence")),
        "posting status": body.get("status") if "posting_id" in body else None,
        "status": hold.get("status"),
        "run": body.get("number"),
        "debit account": body.get("debit_account"),
        "credit account": body.get("credit_account"),
    }
    same_names = ("booked", "pending", "held", "amount", "packet", "check", "account", "requested")
    found |= {name: body.get(name) for name in (*same_names, "mode")}
    found |= {name: body.get(name.replace(" ", "_")) for name in ("value date", "business date")}
    below = body.get("accounts_below_limit", ())
    found |= {f"below limit {one['account']}": one["available"] for one in below}
    found["below limit"] = len(below)
    found |= {name: hold.get(name) for name in ("captured", "released", "remaining")}
    if "available" in body:
        found["available"] = body["available"]
    found |= {name.replace("_", " "): many for name, many in body.get("counts", {}).items()}
    found |= {f"total {currency}": amount for currency, amount in body.get("totals", {}).items()}
    return {name: "none" if value is None else str(value) for name, value in found.items()}


@asynccontextmanager
async def open_stage(database: Database, redis_url: str, home: Path) -> AsyncIterator[Stage]:
    """An API process on this database, with a clock that scenarios set."""
    servers = database.servers(redis_url)
    owner = await asyncpg.connect(servers.owner_dsn)
    try:
        await install_clock(owner)
        bank = Bank(owner)
        keys = {name: await bank.add_client(name, scopes) for name, scopes in CLIENTS.items()}
        with ApiProcess(servers, home) as api:
            async with http_client() as http:
                callers = {name: Caller(http, api.base_url, key) for name, key in keys.items()}
                async with open_backstage(database) as backstage:
                    yield Stage(bank, callers, backstage)
    finally:
        await owner.close()
