"""A consumer of events that dies, without a word, whenever it meets one event.

`python -m tests.torture.crashing_consumer QUEUE VICTIM JOURNAL TIMES`: writes the id of each event
to JOURNAL before it acknowledges it, and dies when it meets VICTIM, the first TIMES times.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from ni.errors import Unavailable
from ni.event_door import open_door
from ni.settings import load_settings

DIED = 9
HANGS_S = 0.2


async def consume(queue: str, victim: str, journal: Path, times: int) -> None:
    """Until killed, or until it dies of the event."""
    door = open_door(load_settings())
    met = lines(journal).count(f"met {victim}")
    while True:
        try:
            async with door.consume(queue) as deliveries:
                async for delivery in deliveries:
                    identifier = json.loads(delivery.event_body)["id"]
                    if identifier == victim and met < times:
                        note(journal, f"met {victim}")
                        # What else the door has in hand by then shares the fate of the delivery.
                        await asyncio.sleep(HANGS_S)
                        os._exit(DIED)
                    note(journal, identifier)
                    await delivery.ack()
        except Unavailable:
            await asyncio.sleep(0.1)


def note(journal: Path, line: str) -> None:
    """One line more, whole or not at all."""
    with journal.open("a") as file:
        file.write(f"{line}\n")


def lines(journal: Path) -> list[str]:
    """What was written."""
    return journal.read_text().splitlines() if journal.exists() else []


if __name__ == "__main__":
    asyncio.run(consume(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])))
