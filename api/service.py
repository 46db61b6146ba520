"""The process itself: whether it lives, whether it can serve, what it counts."""

from __future__ import annotations

import asyncio
import json
from typing import Final

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from api.calls import Call
from api.metrics import CHANGED_KEYS, EPOCH, NIGHT, SWITCH_SECONDS, WAITING
from api.replies import Reply
from ni.errors import NiError

DAY_S: Final = 1
"""How long /metrics waits for the day's figures."""

log = structlog.get_logger()


async def live(_call: Call) -> Reply:
    """GET /healthz: the process lives."""
    return Reply(200, b'{"status":"live"}')


async def ready(call: Call) -> Reply:
    """GET /readyz: the database is reachable, migrations are current, the mode is known."""
    reason = await call.services.ready()
    if reason is None:
        return Reply(200, b'{"status":"ready"}')
    body = json.dumps({"status": "not ready", "reason": reason}).encode()
    return Reply(503, body, headers=((b"retry-after", b"1"),))


async def metrics(call: Call) -> Reply:
    """GET /metrics: for Prometheus."""
    WAITING.set(call.services.engine.waiting)
    await _measure_day(call)
    return Reply(200, generate_latest(), CONTENT_TYPE_LATEST.encode())


async def _measure_day(call: Call) -> None:
    """The day's figures; those of the last time when the database does not tell them."""
    reads = call.services.business_day.reads
    try:
        async with asyncio.timeout(DAY_S):
            state, facts = await reads.state(), await reads.facts()
    except (TimeoutError, NiError) as error:
        log.warning("day_not_measured", error=type(error).__name__)
        return
    NIGHT.set(state.mode == "night")
    EPOCH.set(state.epoch)
    CHANGED_KEYS.set(facts["o_changed_keys"])
    SWITCH_SECONDS.set((facts["o_switch_ms"] or 0) / 1000)
