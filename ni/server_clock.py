"""Steps of the server's clock, seen by what its answers say against this process's own.

Ids are made from the server's clock. When it goes back, new ones are below what was read. When it
goes forward, one that a transaction has had since before looks older than it can be.
"""

from __future__ import annotations

from typing import Final

import structlog

from ni import clock

STEP_US: Final = 500_000
"""A step by less is borne by the margin."""

log = structlog.get_logger()


class ServerClock:
    """Compares each answer with the ones before."""

    def __init__(self, margin_us: int) -> None:
        self._margin_us = margin_us
        self._least_us: int | None = None
        """By so much at least it was ahead of this process's at some time since the start."""
        self._most_us: int | None = None
        """By so much at most, likewise, or by what the last answer before the start said."""
        self._last_us: int | None = None
        """By so much at most, as the last answer said."""
        self._step_us = 0
        self._step_until = float("-inf")

    def start_over(self) -> None:
        """Everything is read from its start: what the clock did before cannot hide anything."""
        self._least_us, self._most_us = None, self._last_us

    def went_back(self, now_us: int, began: float) -> bool:
        """Whether it has gone back since the start, by an answer asked for at `began`."""
        least_us, most_us = now_us - _us(clock.monotonic()), now_us - _us(began)
        back_us = 0 if self._least_us is None else self._least_us - most_us
        forward_us = 0 if self._most_us is None else least_us - self._most_us
        self._last_us = most_us
        if back_us > STEP_US:
            log.warning("relay_clock_went_back", by_ms=back_us // 1000)
            return True
        if forward_us > STEP_US:
            self._go_forward(forward_us)
            self._most_us = most_us
        self._least_us = max(least_us, least_us if self._least_us is None else self._least_us)
        self._most_us = min(most_us, most_us if self._most_us is None else self._most_us)
        return False

    def settled_us(self, now_us: int) -> int:
        """No decision can commit an event any more whose id was made before this instant.

        After a step forward it goes on as if there had been none, until everybody has ended who
        took an id before it.
        """
        if clock.monotonic() >= self._step_until:
            self._step_us = 0
        return now_us - self._step_us - self._margin_us

    def _go_forward(self, by_us: int) -> None:
        log.warning("relay_clock_went_forward", by_ms=by_us // 1000)
        if clock.monotonic() >= self._step_until:
            self._step_us = 0
        self._step_us += by_us
        self._step_until = clock.monotonic() + self._margin_us / 1_000_000


def _us(seconds: float) -> int:
    return int(seconds * 1_000_000)
