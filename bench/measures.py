"""The measures themselves. Each talks to servers that already run and adds to the figures."""

import itertools
import json
from collections.abc import Callable

import asyncpg

from bench import plan as plans
from bench.figures import Figures, MemoryReading
from bench.load_requests import account_name
from bench.load_spec import PACKET, Kind, LoadResult, LoadSpec
from bench.machine import rss_bytes
from bench.plan import Plan
from bench.processes import BenchError, get
from bench.queries import query
from bench.tools import run_load, run_pgbench
from bench.world import World

MEMORY_STEP_S = 10.0
MEMORY_SINGLES_S = 5.0
LONGEST_SWEEP_S = 300.0


class Bench:
    """One run: its plan, the servers and what has been found."""

    def __init__(self, plan: Plan, world: World, say: Callable[[str], None]) -> None:
        """Begin with empty figures; `say` gets a line for every step."""
        self.plan = plan
        self.world = world
        self.say = say
        self.figures = Figures(open_edge_s=plan.open_edge_s)
        self.commands = 0
        self.has_one_by_one = False
        self._has_baseline = False
        self._packet_numbers = itertools.count(1)

    def spec(
        self, kind: Kind, connections: int, seconds: float, *, account: int | None = None,
        accounts: int = 0, count: int = 0, packet: str | None = PACKET, rate: float = 0.0,
    ) -> LoadSpec:  # fmt: skip
        """Return a load of the API: of one account, or of the first `accounts` (0: all)."""
        return LoadSpec(
            kind=kind, port=self.world.api_port, connections=connections, seconds=seconds,
            warm_seconds=0 if count else self.plan.warm_s, bearer=self.world.key,
            accounts=accounts or self.plan.accounts, items=plans.BATCH_ITEMS, count=count,
            account=None if account is None else account_name(account), packet=packet, rate=rate,
        )  # fmt: skip

    async def load(
        self, kind: Kind, connections: int, seconds: float, *, account: int | None = None,
        accounts: int = 0, count: int = 0, packet: str | None = PACKET,
    ) -> LoadResult:  # fmt: skip
        """Load the API in a closed loop and count what it approved."""
        spec = self.spec(kind, connections, seconds, account=account, accounts=accounts,
                         count=count, packet=packet)  # fmt: skip
        result = await run_load(spec)
        self.account_for(kind, result)
        return result

    def account_for(self, kind: Kind, result: LoadResult) -> None:
        """Count what a load got approved, and how punctual it was."""
        self.figures.packets.arrivals += result.arrivals
        self.figures.packets.late += result.late
        if kind != "balance":
            self.figures.postings_acknowledged += result.approved
            self.commands += result.approved
        if kind == "posting":
            self.figures.single_commands += result.approved
        elif kind == "batch":
            self.figures.batch_commands += result.approved

    def new_packet(self) -> str:
        """Return the name of a packet that this run has not used yet."""
        return f"packet.{next(self._packet_numbers)}"

    def read_memory(self) -> MemoryReading:
        """Note how much memory the API process has now."""
        reading = MemoryReading(self.commands, rss_bytes(self.world.api_pid))
        self.figures.memory.append(reading)
        return reading

    async def touch_accounts(self) -> None:
        """Move every account once, so that no measure pays for an account's first movement."""
        result = await self.load(
            "batch", plans.BATCH_CONNECTIONS, LONGEST_SWEEP_S, count=self.plan.accounts
        )
        if result.approved != self.plan.accounts:
            raise BenchError(f"only {result.approved} of {self.plan.accounts} accounts moved")

    async def warm_up(self) -> None:
        """Fill connections, pools and caches; what follows counts for the memory's growth."""
        self.commands = 0  # those before had another process
        self.figures.boot_rss_bytes = rss_bytes(self.world.api_pid)
        many = max(plans.OTHER_CONNECTIONS)
        await self.load("balance", many, self.plan.warm_s)
        await self.load("posting", many, self.plan.warm_s)
        await self.load("batch", plans.BATCH_CONNECTIONS, self.plan.warm_s)
        pending = self.plan.pending_account
        await self.load("batch", 1, LONGEST_SWEEP_S, account=pending,
                        count=plans.PENDING_MOVEMENTS)  # fmt: skip
        self.figures.warm_up_commands = self.commands
        self.commands = self.figures.single_commands = self.figures.batch_commands = 0
        self.read_memory()

    async def measure_a(self) -> None:
        """Checked debits of random accounts."""
        result = await self.load("posting", plans.CONNECTIONS, self.plan.single_s)
        self.figures.add("a", result)

    async def measure_b(self) -> None:
        """Checked debits of one account."""
        hot = self.plan.hot_account
        result = await self.load("posting", plans.CONNECTIONS, self.plan.single_s, account=hot)
        self.figures.add("b", result)

    async def measure_c(self) -> None:
        """Checked debits with few and with many connections."""
        for connections in plans.OTHER_CONNECTIONS:
            result = await self.load("posting", connections, self.plan.connections_s)
            self.figures.add(f"c{connections}", result)

    async def measure_d(self) -> None:
        """Items of batches."""
        result = await self.load("batch", plans.BATCH_CONNECTIONS, self.plan.batch_s)
        self.figures.add("d", result)

    async def measure_e(self) -> None:
        """The ceiling, asked with the very bytes that (a) sends."""
        spec = LoadSpec(
            kind="posting", port=self.world.ceiling_port, connections=plans.CONNECTIONS,
            seconds=self.plan.single_s, warm_seconds=self.plan.warm_s, bearer=self.world.key,
            accounts=self.plan.accounts,
        )  # fmt: skip
        self.figures.add("e", await run_load(spec))

    async def measure_f(self) -> None:
        """One conditional debit a transaction, by pgbench."""
        await self._make_baseline()
        for clients in plans.PGBENCH_CLIENTS:
            sample, transactions = await run_pgbench(
                self.world.pgbench, self.world.owner_dsn, clients, self.plan.pgbench_s,
                self.plan.accounts,
            )  # fmt: skip
            self.figures.samples[f"f{clients}"].append(sample)
            self.figures.pgbench_transactions += transactions

    async def measure_g(self) -> None:
        """Balances: of random accounts, and of one with a thousand movements pending."""
        await self._check_pending()
        seconds, pending = self.plan.balance_s, self.plan.pending_account
        result = await self.load("balance", plans.CONNECTIONS, seconds)
        self.figures.add("g32", result)
        self.figures.add("g1", await self.load("balance", 1, seconds, account=pending))

    async def measure_long(self) -> None:
        """Debits of one account while a transaction with an id stays open."""
        holder: asyncpg.Connection = await asyncpg.connect(self.world.owner_dsn)
        try:
            await holder.execute(query("holder_begin"))
            began = await holder.fetchval(query("holder_xid"))
            result = await self.load(
                "posting", plans.CONNECTIONS, self.plan.open_s, account=self.plan.hot_account
            )
            if await holder.fetchval(query("holder_xid")) != began:
                raise BenchError("the long transaction did not stay open")
        finally:
            await holder.close()
        self.figures.open_per_second = result.per_second

    async def measure_h(self) -> None:
        """Go on until the API has decided the plan's number of commands since its start."""
        while self.commands < self.plan.memory_commands:
            singles_s = min(MEMORY_SINGLES_S, self.plan.single_s)
            await self.load("posting", plans.CONNECTIONS, singles_s)
            batches_s = min(MEMORY_STEP_S, self.plan.batch_s)
            await self.load("batch", plans.BATCH_CONNECTIONS, batches_s)
            reading = self.read_memory()
            self.say(f"   {reading.commands:,} commands, {reading.rss_bytes / 2**20:.1f} MiB")

    async def verify(self) -> None:
        """Count in the database what was acknowledged. Raises BenchError if anything is missing."""
        found = self.figures
        connection: asyncpg.Connection = await asyncpg.connect(self.world.owner_dsn)
        try:
            found.postings_stored = await connection.fetchval(query("posting_count"))
            if self._has_baseline:
                found.pgbench_stored = await connection.fetchval(query("pgbench_count"))
            [booked] = await connection.fetch(query("booked_counts"))
        finally:
            await connection.close()
        if found.postings_stored != found.postings_acknowledged:
            raise BenchError(
                f"{found.postings_acknowledged} acknowledged, {found.postings_stored} stored"
            )
        if found.pgbench_stored != found.pgbench_transactions:
            raise BenchError(
                f"{found.pgbench_transactions} by pgbench, {found.pgbench_stored} stored"
            )
        packets = found.packets
        packets.booked_stored, packets.entries_stored = booked["booked"], booked["entries"]
        if (
            packets.booked_stored != packets.booked_told
            or packets.entries_stored != 2 * packets.booked_stored
            or booked["uneven"] or booked["unapplied"] or booked["unkept"]
        ):  # fmt: skip
            raise BenchError(f"{packets.booked_told} were booked, but there are {dict(booked)}")

    async def _make_baseline(self) -> None:
        if self._has_baseline:
            return
        connection: asyncpg.Connection = await asyncpg.connect(self.world.owner_dsn)
        try:
            await connection.execute(query("pgbench_schema"))
            await connection.execute(query("pgbench_rows"), self.plan.accounts)
            await connection.execute(query("pgbench_analyze"))
        finally:
            await connection.close()
        self._has_baseline = True

    async def _check_pending(self) -> None:
        name = account_name(self.plan.pending_account)
        path = f"/v1/accounts/{name}/balance"
        status, body = await get(self.world.api_port, path, self.world.key)
        expected = f"-{plans.PENDING_MOVEMENTS}.00"
        if status != 200 or json.loads(body)["pending"] != expected:
            raise BenchError(f"{name} should have {expected} pending: {status} {body!r}")
