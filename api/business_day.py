"""The day: how it stands, close, open."""

from __future__ import annotations

from api.calls import Call, fingerprint
from api.fields import Body
from api.replies import Reply
from ni.day_reads import EVERYTHING, Viewer
from ni.day_switch import DayOrder


class CloseBody(Body):
    """Whether a packet that still owes the core something is a reason not to close."""

    require_unloaded: bool = False


class OpenBody(Body):
    """Nothing: the morning asks no questions."""


async def read_day(call: Call) -> Reply:
    """GET /v1/business-day."""
    client = await call.authenticate("read_day")
    viewer = EVERYTHING
    if not client.may("day_of_all_clients"):
        viewer = Viewer(client.name, client.may("balance"))
    return Reply(200, (await call.services.business_day.status(viewer)).encode())


async def close_day(call: Call) -> Reply:
    """POST /v1/business-day/close."""
    client = await call.authenticate("day")
    key = call.idempotency_key()
    body = await call.body(CloseBody)
    order = DayOrder(
        by=client.name, key=key, fingerprint=fingerprint("close", body.require_unloaded)
    )
    answer = await call.services.business_day.close(order, require_unloaded=body.require_unloaded)
    return call.reply_to(answer, 200)


async def open_day(call: Call) -> Reply:
    """POST /v1/business-day/open."""
    client = await call.authenticate("day")
    key = call.idempotency_key()
    await call.body(OpenBody)
    order = DayOrder(by=client.name, key=key, fingerprint=fingerprint("open"))
    return call.reply_to(await call.services.business_day.open(order), 200)
