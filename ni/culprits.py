"""The search for the postings that the core refuses with an error of its own.

It tries parts of a packet in trial runs, which are rolled back: first by halves, each part alone;
and when each passes alone but not all together, one part beside what has passed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from ni import clock
from ni.errors import Unavailable

Failed = list[tuple[UUID, str, str]]
"""Postings with the code and the detail of their problem."""
ALIKE_MAX: Final = 10
"""So many postings refused with one SQLSTATE, and none that passes: the core is ill."""
REASON_CHARACTERS_MAX: Final = 500


@dataclass(slots=True, frozen=True)
class Refusal:
    """What the core answered: its SQLSTATE and its words."""

    state: str
    words: str


Trial = Callable[[list[UUID]], Awaitable[Refusal | None]]


class Search:
    """The search of one job, which may have several rounds.

    Raises Unavailable when the deadline (of `clock.monotonic`) passes, when no posting passes
    and many are refused alike, and what the trial raises.
    """

    def __init__(self, trial: Trial, deadline: float, most: int) -> None:
        self._trial = trial
        self._deadline = deadline
        self._most = most
        self._states: list[str] = []
        self._has_passed = False

    async def round(self, postings: Sequence[UUID]) -> Failed:
        """The culprits among `postings`, at most `most` of those that fail alone."""
        return await self._alone(postings) or await self._together(postings)

    async def _refused(self, part: list[UUID]) -> Refusal | None:
        if clock.monotonic() > self._deadline:
            raise Unavailable("what the core refuses was not found in time")
        refusal = await self._trial(part) if part else None
        if refusal is None and part:
            self._has_passed = True
        return refusal

    async def _alone(self, postings: Sequence[UUID]) -> Failed:
        waiting = [list(postings)]
        found: Failed = []
        while waiting and len(found) < self._most:
            part = waiting.pop()
            refusal = await self._refused(part)
            if refusal is None:
                continue
            if len(part) == 1:
                found.append(_culprit(part[0], refusal))
                self._states.append(refusal.state)
                await self._look_for_outage(refusal, [one for rest in waiting for one in rest])
            else:
                half = len(part) // 2
                waiting += [part[half:], part[:half]]
        return found

    async def _look_for_outage(self, refusal: Refusal, rest: list[UUID]) -> None:
        """When all were refused alike so far, see whether one of the rest passes."""
        if self._has_passed or len(self._states) < ALIKE_MAX or len(set(self._states)) > 1:
            return
        for one in rest[:: max(1, len(rest) // ALIKE_MAX)]:
            other = await self._refused([one])
            if other is None or other.state != refusal.state:
                self._has_passed = True
                return
        raise Unavailable(f"the core refuses every posting: {refusal.words}")

    async def _together(self, postings: Sequence[UUID]) -> Failed:
        """Those that are refused beside the ones that have passed before them."""
        waiting = [list(postings)]
        passed: list[UUID] = []
        found: Failed = []
        while waiting:
            part = waiting.pop()
            refusal = await self._refused(passed + part) if part else None
            if refusal is None:
                passed += part
            elif len(part) == 1:
                found.append(_culprit(part[0], refusal))
            else:
                half = len(part) // 2
                waiting += [part[half:], part[:half]]
        return found


def _culprit(posting_id: UUID, refusal: Refusal) -> tuple[UUID, str, str]:
    return posting_id, "core_error", refusal.words[:REASON_CHARACTERS_MAX]
