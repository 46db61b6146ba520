"""The process itself: whether it lives, whether it can serve, what it counts."""

from __future__ import annotations

import json

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from api.calls import Call
from api.metrics import WAITING
from api.replies import Reply


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
    return Reply(200, generate_latest(), CONTENT_TYPE_LATEST.encode())
