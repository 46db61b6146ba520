"""What endpoints work with, made once for a process."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from api.clients import ClientDirectory
from api.rate_limit import RateLimit
from ni.business_day import BusinessDay
from ni.database import Pools, close_pool, open_unload_pool
from ni.engine import Engine
from ni.migrate import is_current
from ni.packet_reads import PacketReads
from ni.packets import Packets
from ni.reads import Reads, warm_calls
from ni.settings import Settings
from ni.sql import query
from ni.start_checks import check_session
from ni.warmth import keep_warm

if TYPE_CHECKING:
    from ni.database import Pool


@dataclass(slots=True)
class Services:
    """The engine, the reads and the clients of one API process."""

    settings: Settings
    engine: Engine
    reads: Reads
    clients: ClientDirectory
    rate_limit: RateLimit
    write_pools: Pools
    read_pools: Pools
    packets: Packets
    packet_reads: PacketReads
    unload_pool: Pool
    business_day: BusinessDay
    warming: asyncio.Task[None]

    @classmethod
    async def open(cls, settings: Settings) -> Services:
        """Connect and start the engine.

        Raises NiError when the database is away, unsafe or not migrated.
        """
        writers = settings.lanes + settings.batch_lanes
        write_pools = await Pools.open(settings, writers)
        read_pools = await Pools.open(settings, settings.read_connections)
        async with read_pools.day.acquire() as connection:
            await check_session(connection)
            buckets = await connection.fetchval(query("installation_read"))
        engine = Engine(settings, write_pools, buckets)
        clients = ClientDirectory(read_pools.night, settings.client_refresh_s)
        reads = Reads(read_pools, settings, buckets)
        unload_pool = await open_unload_pool(settings)
        business_day = BusinessDay(reads, unload_pool, settings)
        read_pools.mode = write_pools.mode = (await business_day.reads.state()).mode
        engine.start()
        return cls(
            settings=settings,
            engine=engine,
            reads=reads,
            clients=clients,
            rate_limit=RateLimit(settings),
            write_pools=write_pools,
            read_pools=read_pools,
            packets=Packets(unload_pool, settings),
            packet_reads=PacketReads(reads),
            unload_pool=unload_pool,
            business_day=business_day,
            warming=asyncio.create_task(keep_warm(read_pools, warm_calls)),
        )

    async def ready(self) -> str | None:
        """Why this process cannot serve now, or None."""
        try:
            async with asyncio.timeout(1), self.read_pools.current.acquire() as connection:
                if not await is_current(connection):
                    return "migrations are not current"
        except Exception as error:
            return f"the database cannot be reached: {type(error).__name__}"
        return None

    async def close(self) -> None:
        """Finish what was submitted, then close every connection."""
        self.warming.cancel()
        await asyncio.gather(self.warming, return_exceptions=True)
        await self.engine.stop()
        await self.rate_limit.close()
        await close_pool(self.unload_pool)
        await self.write_pools.close()
        await self.read_pools.close()
