"""What the events' campaign does besides the load of the others, so that every type is told.

The load also adjusts holds, places some that expire, and asks for more than there is. Beside it the
bank lives: packets are unloaded, accounts arrested, so that the core refuses what was decided, and
a night passes now and then.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg

from ni.database import LOST_CONNECTION
from tests.support.bank import Bank
from tests.support.caller import Answer, Caller, fresh_key
from tests.support.wire import NO_ANSWER
from tests.torture.account_for import UnaccountedError
from tests.torture.event_flood import FLOOD
from tests.torture.load import ACCOUNTS, Load, Sent, account

OTHERWISE: Final = 0.2
"""How much of the load is of the events' campaign alone."""
LASTS_S: Final = (1.0, 2.5)
TOO_MUCH: Final = "9999999.00"
CLIENT: Final = "torturer"
PACKETS: Final = ("torture", "torture", FLOOD)
NIGHTS: Final = 0.03
ARRESTS: Final = 0.3
RETRIES_MAX: Final = 5
SWITCH_SECONDS: Final = 60.0
GONE: Final = (*NO_ANSWER, *LOST_CONNECTION, asyncpg.PostgresError)
"""What is raised while somebody has killed a server."""


class EventLoad(Load):
    """The load of the other campaigns, and what else is told."""

    def _next(self) -> Sent:
        if self.draw.random() > OTHERWISE:
            return super()._next()
        makers = [self._passing_hold, self._too_much]
        makers += [self._adjust] if self.holds else []
        path, body = self.draw.choice(makers)()
        return Sent(path, json.dumps(body).encode(), fresh_key())

    def _file(self, sent: Sent, answer: Answer) -> None:
        if answer.status == 422 and b'"expires_at"' in sent.content:
            return  # sent again when nobody had answered, and too late by then
        super()._file(sent, answer)

    def _passing_hold(self) -> tuple[str, dict[str, Any]]:
        path, body = self._hold()
        ends = datetime.now(UTC) + timedelta(seconds=self.draw.uniform(*LASTS_S))
        return path, body | {"expires_at": ends.isoformat()}

    def _too_much(self) -> tuple[str, dict[str, Any]]:
        path, body = self._hold()
        return path, body | {"amount": TOO_MUCH}

    def _adjust(self) -> tuple[str, dict[str, Any]]:
        return f"/v1/holds/{self._recent(self.holds)}/adjust", self._amount()


@dataclass
class BankLife:
    """Unloads, arrests and nights, by an operator of the bank."""

    operator: Caller
    owner_dsn: str
    draw: random.Random = field(default_factory=random.Random)
    faults: list[str] = field(default_factory=list)
    is_night: bool = False

    @asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        """The bank lives beside what the caller does; afterwards it is day, and nobody arrested."""
        stop = asyncio.Event()
        work = asyncio.create_task(self._live(stop))
        try:
            yield
        finally:
            stop.set()
            await work

    async def _live(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                if self.is_night:
                    await self.switch("open")
                await self._step()
            except GONE:
                await asyncio.sleep(0.1)
            await asyncio.sleep(self.draw.uniform(0.1, 0.4))
        await self.to_day()
        owner = await asyncpg.connect(self.owner_dsn)
        try:
            for number in range(ACCOUNTS):
                await Bank(owner).unblock(account(number))
        finally:
            await owner.close()

    async def _step(self) -> None:
        chance = self.draw.random()
        if chance < NIGHTS:
            await self.switch("close")
            await asyncio.sleep(self.draw.uniform(0.1, 0.5))
        elif chance < NIGHTS + ARRESTS:
            await self.arrest()
        else:
            await self.unload(self.draw.choice(PACKETS))

    async def unload(self, packet: str) -> None:
        """Book what waits; there may be nothing, or the core may be closed."""
        answer = await self.operator.post(f"/v1/packets/{packet}/unload?client={CLIENT}", {})
        self._expect(answer, 200, 404, 409, 503)

    async def arrest(self) -> None:
        """The core refuses what blocked accounts have decided; set free, some is tried again."""
        owner = await asyncpg.connect(self.owner_dsn)
        try:
            bank, names = Bank(owner), [account(n) for n in self.draw.sample(range(ACCOUNTS), 2)]
            try:
                for name in names:
                    await bank.block(name, self.draw.choice(("debit", "credit", "all")))
                await self.unload("torture")
            finally:
                for name in names:
                    await bank.unblock(name)
            problems = await owner.fetch(
                "select posting_id from ni.posting where home and status = 'problem' limit $1",
                RETRIES_MAX,
            )
        finally:
            owner.terminate()
        for row in problems:
            again = {"action": "retry", "reason": "torture"}
            answer = await self.operator.post(f"/v1/problems/{row['posting_id']}/resolve", again)
            self._expect(answer, 200, 409, 503)

    async def switch(self, word: str) -> None:
        """Close or open the day. Raises UnaccountedError when it is refused for too long."""
        ends, key = time.monotonic() + SWITCH_SECONDS, fresh_key()
        while True:
            answer = await self.operator.post(f"/v1/business-day/{word}", {}, key)
            if answer.status == 200:
                self.is_night = word == "close"
                return
            # The copy is brought back, or a server was killed.
            if time.monotonic() > ends or answer.status not in (409, 503):
                raise UnaccountedError(f"{word}: {answer.status} {answer.content[:300]!r}")
            await asyncio.sleep(0.1)

    async def to_day(self) -> None:
        """It is day, whoever was killed while it was switched. Raises as `switch` does."""
        ends = time.monotonic() + SWITCH_SECONDS
        while True:
            try:
                answer = await self.operator.get("/v1/business-day")
                if answer.status == 200 and answer.body["mode"] == "day":
                    self.is_night = False
                    return
                await self.switch("open")
            except GONE:
                if time.monotonic() > ends:
                    raise
            await asyncio.sleep(0.1)

    def _expect(self, answer: Answer, *allowed: int) -> None:
        if answer.status not in allowed:
            self.faults.append(f"{answer.status} {answer.content[:300]!r}")
