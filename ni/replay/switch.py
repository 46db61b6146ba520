"""What a bank's end-of-day job calls, as a replay does it: close, the core's end of day, open."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import date
from typing import Final
from uuid import uuid4

import asyncpg

from ni.clock import monotonic
from ni.core_end_of_day import end_of_day
from ni.errors import NiError
from ni.replay.sender import Answer, Sender

SCOPES: Final = ("day:operate",)
STATUS: Final = "/v1/business-day"
_OK: Final = 200
_WAITS_FOR: Final = frozenset({"night_copy_not_exact", "core_still_closed"})
"""What passes by itself, so that asking again is the right answer."""

_PAUSE_FIRST_MS: Final = 5
_PAUSE_MAX_MS: Final = 100


@dataclass(frozen=True, slots=True)
class DayState:
    """NI's mode and its epoch."""

    mode: str
    epoch: int


class Switch:
    """Closes and opens with an operator's key, ends dates as ni_core in between.

    `patience_s` limits the tries of closing and of opening.
    """

    def __init__(self, sender: Sender, core: asyncpg.Connection, *, patience_s: int) -> None:
        self.core = core
        self._sender = sender
        self._patience_s = patience_s
        self.waited_us = 0

    def hurry(self) -> None:
        """From now on nothing is tried again."""
        self._patience_s = 0
        self._sender.hurry()

    async def status(self) -> DayState:
        """Where NI is now. Raises NiError as the sender does."""
        return _state(await self._sender.get(STATUS))

    async def close(self) -> DayState:
        """Night, when it returns. Raises NiError when NI refuses for longer than patience."""
        return await self._switched("close")

    async def end(self, day: date, following: date) -> None:
        """The core's end of day without charges. Raises NiError as that does."""
        await end_of_day(self.core, closing=day, following=following)

    async def open(self) -> DayState:
        """Day, when it returns. Raises NiError likewise."""
        return await self._switched("open")

    async def _switched(self, verb: str) -> DayState:
        started = monotonic()
        pause_ms = _PAUSE_FIRST_MS
        while True:
            began = monotonic()
            # Both are idempotent by state: a stored answer would tell of another night.
            answer = await self._sender.post(f"{STATUS}/{verb}", {}, uuid4().hex)
            code = answer.document.get("code")
            if answer.status == _OK or code not in _WAITS_FOR:
                return _state(answer)
            if began - started >= self._patience_s:
                raise NiError(f"NI cannot {verb}: {answer.document.get('detail', code)}")
            await asyncio.sleep(pause_ms / 1000)
            pause_ms = min(2 * pause_ms, _PAUSE_MAX_MS)
            self.waited_us += int((monotonic() - began) * 1_000_000)


def _state(answer: Answer) -> DayState:
    document = answer.document
    if answer.status != _OK:
        raise NiError(f"{STATUS}: {document.get('detail', f'HTTP {answer.status}')}")
    return DayState(str(document["mode"]), int(document["epoch"]))
