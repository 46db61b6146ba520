"""What waits for a lane, and which of it the lane decides next.

Lanes that share a queue decide side by side. Two transactions that lock the same customer account
would do so one after the other, so a lane prefers what shares no account with what the other lanes
are deciding.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from ni import clock
from ni.batch_state import Answer, Snapshot
from ni.commands import Command, accounts_of
from ni.errors import Overloaded

LOOK_AHEAD: Final = 8
"""Units among which a lane chooses."""
PASSES_MAX: Final = 4
"""How often a unit lets later ones go first."""
UNLOCKED_MAX: Final = 10_000
"""Names of accounts without a lock that are remembered, about."""


@dataclass(slots=True, eq=False)
class Unit:
    """Commands that are submitted together: one, a slice of a batch, or an atomic batch."""

    commands: Sequence[Command]
    atomic: bool
    deadline: float
    last: list[Answer] | None = None
    """What was decided before the unit was put back to wait for a packet."""
    passes: int = 0
    """How often a later unit was taken instead."""
    accounts: frozenset[str] = frozenset()
    """The accounts that its commands name, where lanes share a queue."""
    answers: asyncio.Future[list[Answer]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def fail(self, error: Exception) -> None:
        """Tell the caller, unless it has gone."""
        if not self.answers.done():
            self.answers.set_exception(error)

    def expire(self) -> None:
        """Tell the caller that time is up: with what was decided last, if anything was."""
        if self.last is None:
            self.fail(Overloaded("the deadline passed before the decision began"))
        else:
            self.succeed(self.last)

    def succeed(self, answers: list[Answer]) -> None:
        """Tell the caller, unless it has gone."""
        if not self.answers.done():
            self.answers.set_result(answers)


class Queue:
    """Units in the order of their arrival, for one lane or for several."""

    def __init__(self, slice_max: int, *, shared: bool = False) -> None:
        self.commands = 0
        """Commands that wait."""
        self._slice_max: Final = slice_max
        self._shared: Final = shared
        self._units: deque[Unit] = deque()
        self._arrived = asyncio.Event()
        self._deciding: dict[object, frozenset[str]] = {}
        self._unlocked: set[str] = set()

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._units)

    def put(self, unit: Unit) -> None:
        """Let `unit` wait here."""
        if self._shared and not unit.accounts:
            unit.accounts = frozenset(
                name for command in unit.commands for name in accounts_of(command)
            )
        self._units.append(unit)
        self.commands += len(unit.commands)
        self._arrived.set()

    async def arrival(self) -> None:
        """Wait until something waits."""
        while not self._units:
            self._arrived.clear()
            await self._arrived.wait()

    def take(self, lane: object) -> list[Unit]:
        """The units of the lane's next transaction; those whose deadline has passed are refused."""
        now = clock.monotonic()
        units: list[Unit] = []
        size = 0
        while self._units:
            unit = self._next(lane) if self._shared else self._units[0]
            if units and (unit.atomic or size + len(unit.commands) > self._slice_max):
                break
            self._remove(unit)
            if unit.deadline < now:
                unit.expire()
                continue
            units.append(unit)
            size += len(unit.commands)
            if unit.atomic:
                break
        if self._shared:
            self._deciding[lane] = frozenset[str]().union(*(unit.accounts for unit in units))
        return units

    def decided(self, lane: object) -> None:
        """The lane's transaction has ended."""
        self._deciding.pop(lane, None)

    def learn(self, snapshot: Snapshot) -> None:
        """Remember the accounts that no decision locks: to share them delays nobody."""
        if self._shared:
            if len(self._unlocked) > UNLOCKED_MAX:
                self._unlocked.clear()
            self._unlocked.update(
                name for name, figures in snapshot.accounts.items() if not figures.is_customer
            )

    def abandon(self) -> None:
        """Refuse what still waits; nothing of it was begun."""
        while self._units:
            unit = self._units[0]
            self._remove(unit)
            unit.fail(Overloaded("NI is stopping"))

    def _next(self, lane: object) -> Unit:
        """The first unit that shares no locked account with the other lanes', or the first."""
        first = self._units[0]
        if first.passes < PASSES_MAX:
            others = (names for other, names in self._deciding.items() if other is not lane)
            locked = frozenset[str]().union(*others) - self._unlocked
            for number, unit in enumerate(self._units):
                if number == LOOK_AHEAD:
                    break
                if unit.accounts.isdisjoint(locked):
                    if number:
                        first.passes += 1
                    return unit
        return first

    def _remove(self, unit: Unit) -> None:
        if unit is self._units[0]:
            self._units.popleft()
        else:
            self._units.remove(unit)
        self.commands -= len(unit.commands)
