"""What the generator of nights is asked for and what it reports; both cross a pipe as JSON."""

import dataclasses
import datetime as dt
import json
from dataclasses import dataclass, field
from typing import Any, Self

from bench.load_spec import LoadSpec

KINDS = ("debit", "hold", "capture", "read")
"""One after the other, so that each is a quarter of what is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NightSpec:
    """A mix of requests on a schedule whose answers tell the base that they were decided on.

    By night the core adds `booked_minor` to every account of the load, and takes the next business
    date. No load spends as much of one account. So the available of any answer tells how many of
    these nights its base has seen, and epoch, mode and date of the answer must tell the same.
    """

    load: LoadSpec
    """Its `accounts`, `packet`, `rate` and times hold; `account` gets `hot_share` of the whole."""
    opening_minor: int
    booked_minor: int
    first_epoch: int
    """The epoch of the day on whose evening the first of these nights begins."""
    first_date: str
    """The business date of that day."""
    trace: str
    """A file that gets due instant and seconds of every measured request, as pairs of doubles."""
    hot_share: int = 0
    """Of ten requests, those that go to `load.account`."""

    def to_json(self) -> str:
        """Return the text that the generator reads from its standard input."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote."""
        fields: dict[str, Any] = json.loads(text)
        return cls(**{**fields, "load": LoadSpec(**fields["load"])})

    @property
    def warm_seconds(self) -> float:
        """How long the load warms up."""
        return self.load.warm_seconds

    @property
    def seconds(self) -> float:
        """How long the load lasts at most."""
        return self.load.seconds

    def is_night(self, epoch: int) -> bool:
        """Return whether an epoch is one of night."""
        return (epoch - self.first_epoch) % 2 == 1

    def nights(self, epoch: int) -> int:
        """Return how many nights the base of an epoch has seen: a night itself not yet."""
        return (epoch - self.first_epoch) // 2

    def nights_in(self, available: int) -> int:
        """Return how many nights are in a figure that is less than one night's booking short."""
        return -((self.opening_minor - available) // self.booked_minor)

    def date(self, epoch: int) -> str:
        """Return the business date of an epoch; a night has the next one."""
        days = dt.timedelta(days=(epoch - self.first_epoch + 1) // 2)
        return str(dt.date.fromisoformat(self.first_date) + days)


@dataclass(frozen=True, slots=True, kw_only=True)
class NightResult:
    """What happened in the measured part; `approved` counts postings of the whole load."""

    seconds: float
    calls: int
    late: int
    approved: int
    failures: int
    """Calls without the expected answer, and connections lost; of the whole load."""
    mixed: int
    """Answers whose epoch, mode, date and base do not belong together; of the whole load."""
    checked: int
    """Answers that were tested for that."""
    samples: list[str] = field(default_factory=list)
    """The first few of the failures and of the mixed answers."""
    of_kind: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the text that the generator prints."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote."""
        return cls(**json.loads(text))
