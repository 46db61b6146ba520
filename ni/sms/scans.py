"""From where on accounts are looked through for one whose turn it is.

What was leased or settled leaves dead row versions in front for as long as anybody's transaction is
open, the core's whole night, say. So each look begins at a floor that the last one has found, and
now and then one begins at the start, for what was committed long after it was dated. That one may
take up its share of the time and no more; one that does not end in time is given up.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from ni import clock

WHOLE_SCAN_S: Final = 30.0
TIME_SHARE: Final = 20
"""A whole scan is followed by at least so many times as long without one."""

GIVEN_UP_S: Final = 3_600
"""After a whole scan that did not end: those whose turn came before this are left for later."""


@dataclass(slots=True)
class _Bucket:
    floor: datetime | None = None
    whole_from: float = 0.0


class Scans:
    """The floors of one process. Times are seconds of the process clock."""

    def __init__(self) -> None:
        self._buckets: dict[int, _Bucket] = {}

    def floor(self, bucket: int, now: float) -> datetime | None:
        """Where to begin; None: at the start."""
        known = self._buckets.get(bucket)
        return None if known is None or now >= known.whole_from else known.floor

    def note(self, bucket: int, began: float, now: float, floor: datetime, *, whole: bool) -> None:
        """A scan has ended and says where the next one may begin."""
        known = self._buckets.setdefault(bucket, _Bucket())
        known.floor = floor
        if whole:
            known.whole_from = now + max(WHOLE_SCAN_S, TIME_SHARE * (now - began))

    def note_given_up(self, bucket: int, began: float, now: float) -> None:
        """A whole scan did not end in its time."""
        known = self._buckets.setdefault(bucket, _Bucket())
        if known.floor is None:
            known.floor = clock.utc_now() - timedelta(seconds=GIVEN_UP_S)
        known.whole_from = now + max(WHOLE_SCAN_S, TIME_SHARE * (now - began))
