"""`python -m tests.business_day.switcher night|day KEY`: switches once; can be made to kill itself.

NI_TEST_TRIGGER says at which checkpoint of ni/day_switch.py, see tests/support/trigger.py.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import ni.business_day
import ni.day_switch
from ni.business_day import BusinessDay
from ni.database import Pools, close_pool, open_unload_pool
from ni.day_switch import DayOrder
from ni.reads import Reads
from ni.settings import Settings, load_settings
from tests.support.trigger import checkpoint

_ROOT: Final = Path(__file__).parents[2]
FINGERPRINT: Final = b"sixteen bytes..."
OPERATOR: Final = "operator"


async def main(settings: Settings, to: str, key: str) -> None:
    """One switch, told on the standard output."""
    pools = await Pools.open(settings, 1)
    unload_pool = await open_unload_pool(settings)
    try:
        day = BusinessDay(Reads(pools, settings, 1), unload_pool, settings)
        order = DayOrder(by=OPERATOR, key=key, fingerprint=FINGERPRINT)
        answer = await (day.close(order) if to == "night" else day.open(order))
        print(answer.decision.name)
    finally:
        await close_pool(unload_pool)
        await pools.close()


def start(engine_dsn: str, trigger: Path, to: str, key: str) -> subprocess.Popen[str]:
    """A switcher in a process of its own, begun."""
    environment = os.environ | {"NI_DATABASE_URL": engine_dsn, "NI_TEST_TRIGGER": str(trigger)}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.business_day.switcher", to, key],
        cwd=_ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


if __name__ == "__main__":
    ni.day_switch.checkpoint = checkpoint
    ni.business_day.checkpoint = checkpoint  # type: ignore[attr-defined]  # a test puts a hook in
    asyncio.run(main(load_settings(), *sys.argv[1:]))
