"""The process clock: for deadlines, caches and logs only.

What decides about money is `ni.clock()` of the database, read after the locks (one instant per
change). No clock of an API host takes part in a decision.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def monotonic() -> float:
    """Seconds of a clock that never goes back; for deadlines and durations."""
    return time.monotonic()


def utc_now() -> datetime:
    """The host's wall clock in UTC; for logs and messages, never for decisions."""
    return datetime.now(UTC)


def unix_second() -> int:
    """The host's second since 1970, near enough the same on every host; for rate limits."""
    return int(time.time())
