"""What the load generator is asked for and what it reports; both cross a pipe as JSON."""

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Literal, Self

Kind = Literal["posting", "batch", "balance"]
PACKET = "bench"
BEGUN = "begun"
"""What the open loop prints when its measured part begins."""


@dataclass(frozen=True, slots=True)
class LoadSpec:
    """One load. Without a rate it is a closed loop: every connection asks again once answered."""

    kind: Kind
    port: int
    connections: int
    seconds: float
    warm_seconds: float
    bearer: str
    accounts: int
    """How many customer accounts exist; they are numbered from 0."""
    account: str | None = None
    """The only account to use; None picks at random among all."""
    items: int = 1
    """Postings of one batch."""
    count: int = 0
    """Stop after so many commands, evenly over the accounts, whatever `seconds` says. 0: no end."""
    packet: str | None = PACKET
    """The packet that the postings name; None marks them straight-through."""
    rate: float = 0.0
    """Requests a second, due on a schedule whether or not others were answered. 0: closed loop."""

    def to_json(self) -> str:
        """Return the text that the generator reads from its standard input."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote."""
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What happened between the end of the warm-up and the end of the load."""

    rate: float
    """Approved commands (or balances read) per second; the items of a batch are counted singly."""
    p50_ms: float
    p99_ms: float
    max_ms: float
    approved: int
    """Commands approved in the whole load, warm-up and last answers included."""
    failures: int
    """Answers other than the expected one, and connections lost."""
    samples: list[str] = field(default_factory=list)
    """The first few of the failures, as received."""
    per_second: list[int] = field(default_factory=list)
    """Commands approved in each whole second after the warm-up."""
    arrivals: int = 0
    """Requests of an open loop that were due in the measured part."""
    late: int = 0
    """Those of them that left later than the generator's clock alone explains."""

    def to_json(self) -> str:
        """Return the text that the generator prints."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote."""
        return cls(**json.loads(text))
