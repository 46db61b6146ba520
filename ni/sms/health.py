"""Whether the gateway seems to work at all, so that a dead one is not asked by every account.

A failure of one account says nothing of the others. When several accounts in a row have failed and
none has passed, the gateway itself is taken to be out of order: everybody pauses, longer each time,
and one message at a time asks whether it is back.
"""

from __future__ import annotations

from typing import Final

ACCOUNTS_FAILING_MAX: Final = 8
"""So many accounts in a row, and nothing between them that was accepted: it is the gateway."""


class Health:
    """What has been heard of the gateway. `now` is in seconds of the process clock."""

    def __init__(self, pause_ms: int, pause_max_s: int) -> None:
        self._first_pause_ms = pause_ms
        self._pause_max_ms = pause_max_s * 1000
        self._pause_ms = pause_ms
        self._failing: set[str] = set()
        self._paused_until: float | None = None

    @property
    def seems_dead(self) -> bool:
        """Whether only one message at a time is to be tried."""
        return len(self._failing) >= ACCOUNTS_FAILING_MAX

    def room(self, free: int, under_way: int, now: float) -> int:
        """How many messages may be begun now, when there is room for `free` beside `under_way`."""
        if self._paused_until is not None and now < self._paused_until:
            return 0
        if self.seems_dead:
            return 0 if under_way else min(1, free)
        return free

    def note_passed(self) -> None:
        """The gateway has given its verdict on a message: it works."""
        self._failing.clear()
        self._pause_ms = self._first_pause_ms

    def note_failed(self, account: str, now: float) -> None:
        """A try has failed for a reason that may be the gateway's."""
        self._failing.add(account)
        paused = self._paused_until is not None and now < self._paused_until
        if self.seems_dead and not paused:
            self._paused_until = now + self._pause_ms / 1000
            self._pause_ms = min(self._pause_ms * 2, self._pause_max_ms)

    def pause(self, seconds: int, now: float) -> None:
        """The gateway has asked for a pause."""
        until = now + seconds
        if self._paused_until is None or until > self._paused_until:
            self._paused_until = until
