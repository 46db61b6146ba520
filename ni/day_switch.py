"""One switch between day and night: one transaction of a session of its own.

Nothing is written before the flip, and the flip is written with everything that belongs to it. So
whoever is killed here leaves the old mode or the new one, and who asks again finds which.
"""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ni import clock
from ni.batch_state import Answer, refuse
from ni.database import switch_limit_s
from ni.decisions import Decision
from ni.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import asyncpg

    from ni.database import Mode
    from ni.settings import Settings

ENTER: Final = "SELECT * FROM ni.enter_switch_v1($1, $2, $3)"
DRAIN: Final = "SELECT ni.drain_unloads_v1($1)"
UNFINISHED: Final = "SELECT * FROM ni.unfinished_packets_v1($1, $2)"
UNLOADING: Final = "SELECT * FROM ni.unloading_v1($1, $2)"
EXACT: Final = "SELECT ni.exact_copy_mark_v1()"
COPY: Final = "SELECT * FROM ni.night_copy_status_v1()"
FAULTS: Final = "SELECT * FROM ni.night_copy_faults_v1()"
LOCK_CORE: Final = "SELECT ni.lock_core_v1()"
CORE_HELD: Final = "SELECT ni.core_held_v1()"
FLIP: Final = "SELECT * FROM ni.flip_v1($1, $2, $3, $4, $5, $6, $7, $8, $9)"
NOTE: Final = "SELECT ni.note_switch_v1($1, $2)"

PACKETS_SHOWN_MAX: Final = 100
NAMES_LOOKED_AT_MAX: Final = 10_000
GATE_MARGIN_MS: Final = 100


def checkpoint(_name: str) -> None:
    """A named point of a switch, where tests stop or kill the process."""


@dataclass(slots=True, frozen=True, kw_only=True)
class DayOrder:
    """Who asks for a switch, and under which key; without one the answer is not kept."""

    by: str
    key: str | None = None
    fingerprint: bytes = b""


class DaySwitch:
    """A switch for one order. `session` is its own."""

    def __init__(self, session: asyncpg.Connection, settings: Settings, order: DayOrder) -> None:
        self._session = session
        self._settings = settings
        self._order = order
        self.made = False
        """Whether the mode has changed by this very switch."""
        self.switch_ms = 0
        """How long it took, without the wait for runs under way."""
        self._epoch = 0
        self._drain_ms = 0
        self._mark: str | None = None
        self._began = clock.monotonic()

    async def close(self, *, require_unloaded: bool) -> Answer | None:
        """Day to night. None: it is night, or this order has closed before; else why not.

        Raises Unavailable when the gate or the one switcher's place was not had, and what asyncpg
        raises; nothing has changed then (after a lost connection the mode tells).
        """
        return await self._whole("night", lambda: self._close(require_unloaded=require_unloaded))

    async def open(self) -> Answer | None:
        """Night to day, likewise."""
        return await self._whole("day", self._open)

    async def _whole(
        self, to: Mode, steps: Callable[[], Awaitable[Answer | None]]
    ) -> Answer | None:
        await self._session.execute("BEGIN")
        mode, made = await self._enter()
        reused = made not in {None, to}
        if not reused and to in {mode, made}:
            await self._session.execute("ROLLBACK")
            return None
        checkpoint("entered")
        refused = refuse(Decision.idempotency_key_reused) if reused else await steps()
        if refused is not None:
            await self._session.execute("ROLLBACK")
            return refused
        checkpoint("flipped")
        await self._session.execute("COMMIT")
        self.made = True
        self.switch_ms = _since_ms(self._began)
        checkpoint("committed")
        await self._session.fetchval(NOTE, self._epoch, self.switch_ms)
        return None

    async def _enter(self) -> tuple[Mode, Mode | None]:
        """Become the one switcher: the mode, and the one to which this key has switched."""
        wait_ms = switch_limit_s(self._settings) * 500
        row = await self._session.fetchrow(ENTER, self._order.by, self._order.key, wait_ms)
        if row is None:
            raise Unavailable("another switch of the day is under way; ask again")
        return row["mode"], row["made"]

    async def _close(self, *, require_unloaded: bool) -> Answer | None:
        refused = await self._refuse_inexact()
        if refused is not None:
            return refused
        began = clock.monotonic()
        if not await self._session.fetchval(DRAIN, self._settings.drain_timeout_s * 1000):
            return await self._still_unloading()
        drained = clock.monotonic()
        self._drain_ms = int((drained - began) * 1000)
        self._began += drained - began
        checkpoint("drained")
        rows = await self._session.fetch(UNFINISHED, NAMES_LOOKED_AT_MAX, PACKETS_SHOWN_MAX)
        unfinished = [dict(row) for row in rows]
        if unfinished and require_unloaded:
            return _refusal(
                Decision.packets_unfinished,
                f"{_many(unfinished)} unfinished: unload them and settle their problems, or close "
                "without require_unloaded",
                unfinished_packets=unfinished,
            )
        checkpoint("listed")
        # As late as it can be: under the gate there is time to see that nothing has changed since.
        return await self._refuse_inexact() or await self._flip("night", unfinished)

    async def _open(self) -> Answer | None:
        held = await self._session.fetchval(LOCK_CORE)
        if held is not None:
            return _refusal(
                Decision.core_still_closed,
                f"the core still holds {held}: open when its end of day has ended",
            )
        checkpoint("core_had")
        return await self._flip("day", [])

    async def _flip(self, to: Mode, unfinished: list[dict[str, Any]]) -> Answer | None:
        asked_again = False
        for tries in range(1, self._settings.gate_tries_max + 1):
            patience_ms = await self._patience_ms(to)
            row = await self._session.fetchrow(
                FLIP, to, patience_ms, self._settings.idle_in_transaction_timeout_ms,
                self._order.by, self._order.key, tries, self._drain_ms, json.dumps(unfinished),
                self._mark,
            )  # fmt: skip
            assert row is not None, "a function with OUT parameters returns one row"
            if row["o_result"] == "flipped":
                self._epoch = row["o_epoch"]
                return None
            if row["o_result"] == "not_exact":
                refused = await self._refuse_inexact()
                if refused is not None or asked_again:
                    return refused or await self._inexact()
                asked_again = True
                continue
            checkpoint("gate_not_had")
            # Twice as long as a try at least: calls that waited behind it are served meanwhile.
            await asyncio.sleep(random.uniform(2, 3) * self._settings.gate_timeout_ms / 1000)
        raise Unavailable(
            f"decisions did not let the switch in within {self._settings.gate_tries_max} tries; "
            "nothing has changed, ask again"
        )

    async def _patience_ms(self, to: Mode) -> int:
        """How long a try lasts.

        A core that was too early holds every decision, and each holds the gate until its own
        patience ends: a try that lasts longer wins. The calls stand still already.
        """
        if to == "night" and await self._session.fetchval(CORE_HELD) is not None:
            return self._settings.lock_timeout_ms + GATE_MARGIN_MS
        return self._settings.gate_timeout_ms

    async def _refuse_inexact(self) -> Answer | None:
        self._mark = await self._session.fetchval(EXACT)
        return None if self._mark is not None else await self._inexact()

    async def _inexact(self) -> Answer:
        status = await self._session.fetchrow(COPY)
        faults = [row[0] for row in await self._session.fetch(FAULTS)]
        changed = 0 if status is None else status["changed_keys"]
        advice = (
            "; ".join(faults) if faults else "ask again in a while; it is brought up to date by day"
        )
        return _refusal(
            Decision.night_copy_not_exact,
            f"the night copy lacks {changed} changed keys of the core: {advice}",
            changed_keys=changed,
            faults=faults,
        )

    async def _still_unloading(self) -> Answer:
        row = await self._session.fetchrow(UNLOADING, NAMES_LOOKED_AT_MAX, PACKETS_SHOWN_MAX)
        packets = [] if row is None else json.loads(row["o_packets"])
        names = ", ".join(f"{one['packet']} of {one['client']}" for one in packets)
        waited = self._settings.drain_timeout_s
        return _refusal(
            Decision.packets_unfinished,
            f"still unloading after {waited} s: {names or 'a run'}; ask again when it has ended",
            unloading=0 if row is None else row["o_runs"],
            packets=packets,
        )


def _refusal(decision: Decision, detail: str, **more: Any) -> Answer:
    return Answer(decision, json.dumps({"detail": detail, **more}))


def _many(packets: list[dict[str, Any]]) -> str:
    if len(packets) == 1:
        return "1 packet is"
    more = " or more" if len(packets) == PACKETS_SHOWN_MAX else ""
    return f"{len(packets)}{more} packets are"


def _since_ms(began: float) -> int:
    return int((clock.monotonic() - began) * 1000)
