"""The notifier's calls of the database, as role ni_sms: each is one short transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, TypeAlias
from uuid import UUID

import asyncpg
import structlog

from ni import clock
from ni.database import LOST_CONNECTION, EngineConnection
from ni.errors import NiError, Unavailable
from ni.sms.gateway import Message, Outcome
from ni.sms.scans import Scans
from ni.sql import query

if TYPE_CHECKING:
    from ni.database import Pool
    from ni.settings import Settings

COMMAND_MARGIN_S: Final = 1

SUBSCRIBERS: Final = "SELECT * FROM ni.sms_subscribers_v1($1)"
TAKE: Final = "SELECT * FROM ni.sms_take_v1($1, $2, $3, $4)"
LEASE: Final = "SELECT * FROM ni.sms_lease_v1($1, $2, $3, $4, $5)"
WAITING: Final = "SELECT ni.sms_waiting_v1($1)"
PLACE: Final = "SELECT ni.sms_place_v1($1, $2)"
RAISE_FLOOR: Final = "SELECT ni.sms_raise_floor_v1($1, $2)"
FORGET_IDS: Final = "SELECT * FROM ni.sms_forget_ids_v1($1, $2)"
FORGET_MESSAGES: Final = "SELECT * FROM ni.sms_forget_messages_v1($1, $2, $3)"
FORGET_ACCOUNTS: Final = "SELECT * FROM ni.sms_forget_accounts_v1($1, $2, $3)"

DATABASE_FAULTS: Final = (*LOST_CONNECTION, asyncpg.PostgresError)
"""What a call of the database raises. The same call may be made again."""

EVENTS_FAULTS: Final = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)
"""Those among them that say something about what was given, and not about the database."""

AccountKey: TypeAlias = tuple[int, str]

_TOO_LONG: Final = (
    TimeoutError,
    asyncpg.QueryCanceledError,
    asyncpg.exceptions.TransactionTimeoutError,
)

log = structlog.get_logger()


def took_too_long(error: BaseException) -> bool:
    """Whether a call of the database was not done in its time."""
    # The server ends the session for it, and the driver may tell of that first.
    return isinstance(error, _TOO_LONG) or isinstance(error.__cause__, _TOO_LONG)


@dataclass(frozen=True, slots=True)
class Subscriber:
    """Who wants which texts about an account, and since when."""

    account: str
    phone: str
    language: str
    types: frozenset[str]
    since: datetime


@dataclass(frozen=True, slots=True)
class Taken:
    """Of a batch: events that were new, those too old, and texts beyond an account's limit."""

    seen: int
    too_old: int
    too_many: int


@dataclass(frozen=True, slots=True)
class NewMessage:
    """An event of a subscribed account, and its text in both forms; None: it is not told."""

    event_id: UUID
    account: str
    sequence: int | None
    type: str
    event_time: datetime
    phone: str
    language: str
    text: str | None
    late_text: str | None


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a try; `pause_ms`: until the next one, if there shall be one."""

    message: Message
    outcome: Outcome
    pause_ms: int


def sms_session_settings(settings: Settings) -> dict[str, str]:
    """The server settings of the notifier's sessions."""
    limit_ms = settings.transaction_timeout_ms
    return {
        "application_name": "ni sms",
        "search_path": "pg_catalog",
        "default_transaction_isolation": "read committed",
        "lock_timeout": str(limit_ms // 2),
        "idle_in_transaction_session_timeout": str(settings.idle_in_transaction_timeout_ms),
        "transaction_timeout": str(limit_ms),
        "plan_cache_mode": "force_generic_plan",
        "enable_seqscan": "off",
        "enable_hashjoin": "off",
        "enable_mergejoin": "off",
        "jit": "off",
        "timezone": "UTC",
    }


async def open_sms_pool(settings: Settings) -> Pool:
    """The notifier's connections. Raises Unavailable, or NiError when no address is set."""
    if not settings.sms_database_url:
        raise NiError("the notifier has a role of its own: set NI_SMS_DATABASE_URL")
    try:
        return await asyncpg.create_pool(
            settings.sms_database_url,
            min_size=1,
            max_size=settings.sms_sessions,
            max_inactive_connection_lifetime=0,
            connection_class=EngineConnection,
            timeout=settings.connect_timeout_ms / 1000,
            command_timeout=settings.transaction_timeout_ms / 1000 + COMMAND_MARGIN_S,
            server_settings=sms_session_settings(settings),
        )
    except LOST_CONNECTION as error:
        raise Unavailable(f"PostgreSQL cannot be reached: {error}") from error


class Store:
    """The tables of texts. Every method raises what asyncpg raises."""

    def __init__(self, pool: Pool, settings: Settings) -> None:
        self._pool = pool
        self._settings = settings
        # A lease outlives the try that it is for: only a sender that has stopped loses one.
        self._lease_s = settings.sms_timeout_ms // 1000 + 1 + settings.sms_lease_s
        self._scans = Scans()

    async def buckets(self) -> int:
        """The number of buckets of the database."""
        return int(await self._pool.fetchval(query("installation_read")))

    async def subscribers(self, accounts: Sequence[str]) -> dict[str, Subscriber]:
        """Who wants texts about these accounts, by account."""
        rows = await self._pool.fetch(SUBSCRIBERS, list(accounts))
        return {
            row["account"]: Subscriber(
                row["account"], row["phone"], row["language"], frozenset(row["types"]), row["since"]
            )
            for row in rows
        }

    async def take(self, messages: Sequence[NewMessage]) -> Taken:
        """Keep what the inbox has not seen. Whatever comes twice changes nothing."""
        rows = [
            (m.event_id, m.account, m.sequence, m.type, m.event_time, m.phone, m.language, m.text,
             m.late_text)
            for m in messages
        ]  # fmt: skip
        settings = self._settings
        row = await self._pool.fetchrow(
            TAKE, rows, settings.sms_age_max_s, settings.sms_gap_max_s,
            settings.sms_account_waiting_max,
        )  # fmt: skip
        assert row is not None
        return Taken(row["o_seen"], row["o_too_old"], row["o_too_many"])

    async def lease(self, bucket: int, limit: int) -> list[Message]:
        """The next message of at most `limit` accounts whose turn it is."""
        began = clock.monotonic()
        floor = self._scans.floor(bucket, began)
        gap_s = self._settings.sms_gap_max_s
        try:
            row = await self._pool.fetchrow(LEASE, bucket, floor, limit, self._lease_s, gap_s)
        except DATABASE_FAULTS as error:
            if floor is not None or not took_too_long(error):
                raise
            self._scans.note_given_up(bucket, began, clock.monotonic())
            log.warning("sms_scan_given_up", bucket=bucket, error=type(error).__name__)
            return []
        assert row is not None
        now = clock.monotonic()
        self._scans.note(bucket, began, now, row["o_floor"], whole=floor is None)
        return [
            Message(
                bucket, given["event_id"], given["account"], given["phone"], given["text"],
                given["tries"], given["failures"], given["lease"],
            )
            for given in row["o_messages"]
        ]  # fmt: skip

    async def settle(self, settled: Sequence[Settled]) -> list[bool]:
        """Note what became of tries. False: that lease had ended before."""
        rows = [
            (one.message.bucket, one.message.event_id, one.message.account, one.message.lease,
             one.outcome.status, one.outcome.reason, one.pause_ms, one.outcome.counts)
            for one in settled
        ]  # fmt: skip
        found = await self._pool.fetch(query("sms_settle"), *map(list, zip(*rows, strict=True)))
        ours = {row["place"]: bool(row["ours"]) for row in found}
        return [ours[place] for place in range(1, len(rows) + 1)]

    async def waiting(self, most: int) -> int:
        """How many messages wait, counted up to `most`."""
        return int(await self._pool.fetchval(WAITING, most))

    async def place(self, before: datetime | None, places: int) -> datetime | None:
        """The time of the event with so many newer ones, from `before` on; None: too few."""
        at: datetime | None = await self._pool.fetchval(PLACE, before, places)
        return at

    async def raise_floor(self, last: datetime | None) -> None:
        """Forget from now on what is older than the age limit, and up to `last`."""
        await self._pool.execute(RAISE_FLOOR, self._settings.sms_age_max_s, last)

    async def forget_ids(self, since: datetime | None) -> tuple[int, datetime | None]:
        """One step: how many ids went, and from where to go on."""
        row = await self._pool.fetchrow(FORGET_IDS, since, self._settings.sms_prune_step)
        assert row is not None
        return row["o_count"], row["o_to"]

    async def forget_messages(self, since: datetime | None) -> tuple[int, datetime | None]:
        """The same with messages that have long been done."""
        days, step = self._settings.sms_keep_days, self._settings.sms_prune_step
        row = await self._pool.fetchrow(FORGET_MESSAGES, since, days, step)
        assert row is not None
        return row["o_count"], row["o_to"]

    async def forget_accounts(self, after: AccountKey) -> tuple[int, AccountKey | None]:
        """The same with idle accounts, in the order of their keys; None: these were the last."""
        row = await self._pool.fetchrow(FORGET_ACCOUNTS, *after, self._settings.sms_prune_step)
        assert row is not None
        last = row["o_bucket"], row["o_after"]
        return row["o_count"], None if last[0] is None else last
