"""What the notifier's tests share: events, deliveries, and the notifier on a database."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast
from uuid import UUID
from zoneinfo import ZoneInfo

import asyncpg

from ni.deliveries import Door
from ni.events import COMMON, Event, render, time_of
from ni.identifiers import bucket_of, make_id
from ni.settings import Settings
from ni.sms.gateway import Message, Outcome
from ni.sms.inbox import Inbox
from ni.sms.store import Settled, Store
from ni.sms.subscriptions import subscribe
from tests.support.databases import Database

PHONE: Final = "+420601234567"
UTC_ZONE: Final = ZoneInfo("UTC")
_salts = itertools.count(1)


def now_us() -> int:
    """The instant of an event that happens now."""
    return time.time_ns() // 1000


def make_event(
    account: str,
    sequence: int | None,
    /,
    *,
    kind: str = "ni.posting.created",
    buckets: int = 1,
    at_us: int | None = None,
    **data: Any,
) -> Event:
    """An event of a debit of 50.00 CZK, or of what `data` says."""
    instant = at_us if at_us is not None else now_us()
    identifier = str(make_id(instant, next(_salts), bucket_of(account, buckets)))
    known = dict.fromkeys(COMMON) | {
        "account": account, "client": "cash", "amount": "50.00", "currency": "CZK",
        "direction": "debit", "available_after": "100.00", "sequence": sequence, "epoch": 1,
    }  # fmt: skip
    extra = {"reason": "insufficient_funds"} if kind == "ni.debit.refused" else {}
    return Event(identifier, kind, account, time_of(identifier), known | extra | data)


@dataclass
class Given:
    """A delivery in the test's hand, and what the consumer did with it."""

    event_body: bytes
    attempt: int = 1
    ended: list[str] = field(default_factory=list)

    async def ack(self) -> None:
        self.ended.append("acked")

    async def retry(self, after_s: float) -> None:
        self.ended.append(f"again after {after_s}")

    async def dead_letter(self, reason: str) -> None:
        self.ended.append(f"dead: {reason}")


def given(events: Sequence[Event]) -> list[Given]:
    """Deliveries of events."""
    return [Given(render(event)) for event in events]


def sms_settings(database: Database, **limits: Any) -> Settings:
    """Settings of a notifier that is in a hurry."""
    known: dict[str, Any] = {
        "sms_database_url": database.sms_dsn,
        "sms_pause_ms": 5,
        "sms_pause_max_s": 1,
        "sms_interval_ms": 10,
        "sms_timeout_ms": 1_000,
    }
    return Settings(**(known | limits))


class Scene:
    """The notifier's parts on one database, without a door."""

    def __init__(self, owner: asyncpg.Connection, pool: Any, settings: Settings) -> None:
        self.owner = owner
        self.settings = settings
        self.store = Store(pool, settings)
        self.wake = asyncio.Event()

    async def subscribe(self, *accounts: str, language: str = "en", **options: Any) -> None:
        """Want texts about accounts, since long ago."""
        for account in accounts:
            await subscribe(self.owner, account, PHONE, language, **options)
        await self.owner.execute("update ni.sms_subscription set since = '2000-01-01T00:00Z'")

    async def take(self, *events: Event) -> list[list[str]]:
        """Deliver events in one batch; what the inbox did with each delivery."""
        deliveries = given(events)
        await self.inbox().take(deliveries)
        return [delivery.ended for delivery in deliveries]

    def inbox(self) -> Inbox:
        """An inbox behind no door."""
        door = cast(Door, None)  # `take` needs none
        return Inbox(self.store, door, self.settings, UTC_ZONE, self.wake)

    async def settle(self, message: Message, outcome: Outcome, pause_ms: int) -> bool:
        """Note what became of one try; whether its lease was still held."""
        [ours] = await self.store.settle([Settled(message, outcome, pause_ms)])
        return ours

    async def rows(self) -> list[dict[str, Any]]:
        """All messages in the order of their events."""
        found = await self.owner.fetch("select * from ni.sms_message order by event_time, sequence")
        return [dict(row) for row in found]

    async def statuses(self) -> dict[UUID, str]:
        """What has become of each message."""
        return {row["event_id"]: row["status"] for row in await self.rows()}


async def until(
    condition: Callable[[], Awaitable[bool] | bool], seconds: float = 20.0, what: str = "it"
) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        holds = condition()
        if await holds if isinstance(holds, Awaitable) else holds:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{what} did not come true in {seconds} s")
