"""The short form of the texts' part of `make torture`."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from tests.torture.account_for import UnaccountedError
from tests.torture.event_flood import flood
from tests.torture.event_rounds import kill_relay
from tests.torture.event_sms import (
    WAYS,
    kill_notifier,
    lose_way,
    repeat_events,
    sms_bench,
    stop_gateway,
)

FLOODED = 100


@pytest.mark.timeout(240)
async def test_texts_survive(home: Path) -> None:
    """A text an event, once by its id, the same each time, to whom and with what it should, in its
    account's order."""
    draw = random.Random()
    async with sms_bench(home, 8, flooded=FLOODED) as sms:
        await kill_notifier(sms, draw)
        await flood(sms.events, 1, draw, FLOODED)
        await stop_gateway(sms, draw)
        await kill_relay(sms.events, draw)
        await repeat_events(sms, draw)
        await lose_way(sms, draw, WAYS["binding"])
        await sms.count()
        assert sms.texts > FLOODED + 50
        # What is counted is looked at: a text that nobody wanted is found.
        one = sms.gateway.received[0]
        wrong = {
            "nobody wanted": replace(one, id="x"),
            "another text or phone": replace(one, text=f"{one.text}!"),
            "sent to": replace(one, to="+420700000000"),
            "another account": replace(one, text=one.text.replace("*", "*1")),
            "says": replace(one, text=2 * one.text),
        }
        for complaint, received in wrong.items():
            sms.gateway.received.append(received)
            with pytest.raises(UnaccountedError, match=complaint):
                await sms.count()
            sms.gateway.received.pop()
        await sms.count()
