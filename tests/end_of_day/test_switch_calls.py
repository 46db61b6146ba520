"""How a replay closes and opens: what passes is asked again, every time with a key of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import asyncpg
import pytest

from ni.errors import NiError
from ni.replay import Sender, Switch
from ni.rest_client import Reply

NIGHT = {"mode": "night", "epoch": 2}


class Door:
    """Gives these answers one after the other, the last one for ever."""

    def __init__(self, *answers: tuple[int, Mapping[str, Any]]) -> None:
        self._answers = list(answers)
        self.asked: list[tuple[str, str, str | None]] = []

    async def send(
        self, method: str, path: str, body: Mapping[str, object] | None, key: str | None
    ) -> Reply:
        assert body in (None, {})
        self.asked.append((method, path, key))
        status, document = self._answers[0]
        if len(self._answers) > 1:
            self._answers.pop(0)
        return Reply(status, json.dumps(document).encode(), False, "", 100)


def refused(code: str) -> tuple[int, Mapping[str, Any]]:
    return 409, {"code": code, "detail": f"it is {code}"}


def switch_through(door: Door, core: asyncpg.Connection, patience_s: int = 5) -> Switch:
    return Switch(Sender(door, patience_s=patience_s), core, patience_s=patience_s)


@pytest.mark.parametrize("code", ["night_copy_not_exact", "core_still_closed"])
async def test_what_passes_is_asked_again(core: asyncpg.Connection, code: str) -> None:
    door = Door(refused(code), refused(code), (200, NIGHT))
    switch = switch_through(door, core)
    state = await switch.close()
    assert (state.mode, state.epoch) == ("night", 2)
    assert [(method, path) for method, path, _ in door.asked] == [
        ("POST", "/v1/business-day/close")
    ] * 3
    assert len({key for _, _, key in door.asked}) == 3, "a stored answer would tell of the past"
    assert switch.waited_us > 0


async def test_patience_ends(core: asyncpg.Connection) -> None:
    switch = switch_through(Door(refused("night_copy_not_exact")), core, patience_s=0)
    with pytest.raises(NiError, match="NI cannot close: it is night_copy_not_exact"):
        await switch.close()


async def test_who_hurries_does_not_ask_again(core: asyncpg.Connection) -> None:
    switch = switch_through(Door(refused("core_still_closed")), core, patience_s=60)
    switch.hurry()
    with pytest.raises(NiError, match="NI cannot open"):
        await switch.open()


async def test_another_refusal_is_told_at_once(core: asyncpg.Connection) -> None:
    door = Door(refused("packets_unfinished"))
    with pytest.raises(NiError, match="it is packets_unfinished"):
        await switch_through(door, core).close()
    assert len(door.asked) == 1


async def test_the_status_is_asked(core: asyncpg.Connection) -> None:
    door = Door((200, {"mode": "day", "epoch": 7}))
    state = await switch_through(door, core).status()
    assert (state.mode, state.epoch) == ("day", 7)
    assert door.asked == [("GET", "/v1/business-day", None)]
