"""The short form of the texts' part of `make torture`."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.torture.account_for import UnaccountedError
from tests.torture.event_rounds import kill_relay
from tests.torture.event_sms import kill_notifier, repeat_events, sms_bench, stop_gateway


@pytest.mark.timeout(240)
async def test_texts_survive(home: Path) -> None:
    """A text an event, once by its id, the same each time, in its account's order."""
    draw = random.Random()
    async with sms_bench(home, 8) as sms:
        await kill_notifier(sms, draw)
        await stop_gateway(sms, draw)
        await kill_relay(sms.events, draw)
        await repeat_events(sms, draw)
        await sms.count()
        assert sms.texts > 50
        # What is counted is looked at: a text that nobody wanted is found.
        one = sms.gateway.received[0]
        sms.gateway.received.append(type(one)("x", one.to, one.text, one.headers, one.at))
        with pytest.raises(UnaccountedError, match="nobody wanted"):
            await sms.count()
