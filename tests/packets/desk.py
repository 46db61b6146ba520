"""What tests of packets share: decide on postings, unload them, look at both sides."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from ni.batch_state import Answer
from ni.commands import ResolveProblem
from ni.database import close_pool, open_unload_pool
from ni.packet_reads import PacketReads
from ni.packets import Order, Packets
from tests.engine.world import CASH, CLIENT, PRINT, World, debit, fresh_key, id_of, made, open_world
from tests.support.databases import Database

SUPERVISOR: Final = "supervisor"


def order(packet: str = "p", **more: Any) -> Order:
    """An order of the packet's own client, with a key of its own."""
    fields: dict[str, Any] = {
        "client": CLIENT,
        "packet": packet,
        "by": CLIENT,
        "key": fresh_key(),
        "fingerprint": PRINT,
    }
    return Order(**(fields | more))


def resolve(posting_id: UUID, action: str, **more: Any) -> ResolveProblem:
    """A problem to settle."""
    fields: dict[str, Any] = {
        "client": SUPERVISOR,
        "key": fresh_key(),
        "fingerprint": PRINT,
        "any_client": True,
        "posting_id": posting_id,
        "action": action,
        "reason": "looked at it",
    }
    return ResolveProblem(**(fields | more))


@dataclass
class Desk:
    """A world whose postings reach the core."""

    world: World
    packets: Packets
    reads: PacketReads

    async def post(self, account: str, amount: int, credit: str = CASH, **more: Any) -> UUID:
        """A posting that was approved."""
        return id_of(await self.world.engine.submit(debit(account, amount, credit, **more)))

    async def unload(self, packet: str = "p", *, accepted: bool = True, **more: Any) -> Any:
        """The document of a run."""
        return made(await self.packets.unload(order(packet, **more), accepted=accepted))

    async def accept(self, packet: str = "p", number: int | None = None, **more: Any) -> Answer:
        """Another client's yes."""
        return await self.packets.accept(
            order(packet, **({"by": SUPERVISOR} | more)), number, "chief"
        )

    async def reject(self, packet: str = "p", number: int | None = None) -> Answer:
        """Another client's no."""
        return await self.packets.reject(order(packet, by=SUPERVISOR), number, "not so", "chief")

    async def settle(self, posting_id: UUID, action: str, **more: Any) -> Answer:
        """Settle a problem through the engine."""
        return await self.world.engine.submit(resolve(posting_id, action, **more))

    async def statuses(self, *postings: UUID) -> list[str]:
        """The statuses of postings, in their order."""
        found = [await self.world.reads.posting(posting) for posting in postings]
        return [posting.status if posting else "missing" for posting in found]

    async def core_balance(self, account: str) -> int:
        """What the core says, in minor units."""
        return int(
            await self.world.owner.fetchval(
                "select balance from core.account where account = $1", account
            )
        )

    async def pending(self, account: str) -> str:
        """What NI has accepted and the core has not booked, as printed."""
        return str((await self.world.balance(account))["pending"])

    async def packet(self, packet: str = "p") -> Any:
        """The packet's document."""
        document = await self.reads.packet(CLIENT, packet)
        return None if document is None else json.loads(document)

    async def problems(self, status: str | None = "open") -> list[dict[str, Any]]:
        """Problems of all clients, oldest first."""
        documents, _ = await self.reads.problems(None, status, None, 500)
        return [json.loads(document) for document in documents]

    async def entries(self) -> list[tuple[str, int]]:
        """The core's entries of NI's packets, in their order."""
        rows = await self.world.owner.fetch(
            "select account, amount from core.entry where packet_id is not null"
            " order by posting_id, amount"
        )
        return [(row["account"], row["amount"]) for row in rows]


@asynccontextmanager
async def open_desk(database: Database, **limits: Any) -> AsyncIterator[Desk]:
    """A desk on `database` with these settings."""
    async with open_world(database, **limits) as world:
        pool = await open_unload_pool(world.settings)
        try:
            yield Desk(world, Packets(pool, world.settings), PacketReads(world.reads))
        finally:
            await close_pool(pool)
