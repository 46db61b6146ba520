"""`python -m tests.support.killable_unloader`: unloads packets until it is killed.

Every order is written to the file NI_TEST_JOURNAL before it is given and its answer after it came,
so that whoever survives knows which orders nobody knows the end of. NI_TEST_TRIGGER says at which
checkpoint of ni/packets.py the process kills itself, see trigger.py.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import asyncpg

import ni.packets
from ni.batch_state import Answer
from ni.database import LOST_CONNECTION, close_pool, open_unload_pool
from ni.errors import NiError
from ni.packets import Order, Packets
from ni.settings import Settings, load_settings
from ni.straight_through import StraightThrough
from tests.support.trigger import checkpoint

CLIENT: Final = "torturer"
CHIEF: Final = "chief"
PACKETS: Final = tuple(f"torture-{number}" for number in range(4))
_PRINT: Final = b"a fingerprint of 32 bytes length"
_KINDS: Final = ("unload",) * 6 + ("wait", "wait", "accept", "accept", "reject", "stp", "stp")


class Journal:
    """Orders and their answers, a line each."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, line: dict[str, Any]) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def lines(self) -> Iterator[dict[str, Any]]:
        """What was written; the last line may be a half, for its writer was killed."""
        if self._path.exists():
            for line in self._path.read_text().splitlines():
                if line.endswith("}"):
                    yield json.loads(line)

    def orders(self) -> dict[str, dict[str, Any]]:
        """Every order by its key, with `answer` where one came."""
        found: dict[str, dict[str, Any]] = {}
        for line in self.lines():
            found.setdefault(line["key"], {}).update(line)
        return found


def drawn(kind: str) -> dict[str, Any]:
    """An order of this kind, with a key of its own."""
    packet = random.choice(PACKETS)
    return {"key": uuid4().hex, "kind": kind, "packet": packet}


async def carry_out(packets: Packets, asked: dict[str, Any]) -> Answer:
    """Give an order; the same key is the same order. Raises as Packets does."""
    kind = asked["kind"]
    by = CHIEF if kind in ("accept", "reject") else CLIENT
    order = Order(
        client=CLIENT, packet=asked["packet"], by=by, key=asked["key"], fingerprint=_PRINT
    )
    if kind == "accept":
        return await packets.accept(order, None, None)
    if kind == "reject":
        return await packets.reject(order, None, "torture", None)
    return await packets.unload(order, accepted=kind == "unload")


async def told(journal: Journal, packets: Packets, asked: dict[str, Any]) -> None:
    """Give an order and write down what became of it."""
    answer = await carry_out(packets, asked)
    document = json.loads(answer.document) if answer.document else {}
    journal.write(
        {"key": asked["key"], "answer": answer.decision.name, "replayed": answer.replayed,
         "document": document}
    )  # fmt: skip


async def resolve(journal: Journal, packets: Packets) -> int:
    """Give every order without an answer again, with its key; how many these were."""
    unanswered = [asked for asked in journal.orders().values() if "answer" not in asked]
    for asked in unanswered:
        await told(journal, packets, asked)
    return len(unanswered)


async def _work(journal: Journal, packets: Packets, straight: StraightThrough) -> None:
    while True:
        kind = random.choice(_KINDS)
        try:
            if kind == "stp":
                await straight.step()
                continue
            asked = drawn(kind)
            journal.write(asked)
            await told(journal, packets, asked)
        except (NiError, *LOST_CONNECTION, asyncpg.PostgresError):
            await asyncio.sleep(0.05)  # the server was killed; the order stays without an answer


async def main(settings: Settings) -> None:
    journal = Journal(Path(os.environ["NI_TEST_JOURNAL"]))
    pool = await open_unload_pool(settings)
    try:
        packets = Packets(pool, settings)
        journal.write({"key": "started", "answer": "approved"})
        workers = [_work(journal, packets, StraightThrough(pool, settings)) for _ in range(2)]
        await asyncio.gather(*workers)
    finally:
        await close_pool(pool)


if __name__ == "__main__":
    ni.packets.checkpoint = checkpoint
    asyncio.run(main(load_settings()))
