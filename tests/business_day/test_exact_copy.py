"""A close asks whether the copy is exact: before the gate at leisure, under it in a moment."""

from __future__ import annotations

from typing import Final

import pytest

from ni.batch_state import Answer
from ni.day_switch import DaySwitch
from tests.business_day.house import House, asked, why_not
from tests.engine.world import debit, made

BEFORE_THE_GATE: Final = {
    "truncated": "truncate core.block",
    "noted": "insert into night.changed (bucket, relation, key) values (0, 'account', 'A')",
    "trigger_off": "alter table core.block disable trigger user",
    "partition_more": "create table core.more () inherits (core.account)",
    "view_replaced": "create or replace view day_alias.block as select account, side,"
    " legal_reference, valid_from, valid_to from core.block where side <> 'all'",
}


@pytest.mark.parametrize("change", ["truncate core.block", "update ni.mode set mode = mode"])
async def test_a_close_brings_back_what_is_noted(house: House, change: str) -> None:
    """The core has just done it; nobody has to ask a second time."""
    names = await house.world.open(200, balance=100_00)
    await house.close()
    await house.world.owner.execute("update core.account set balance = balance - 100")
    await house.open()
    await house.world.owner.execute(change)
    assert not (await house.status())["night_copy"]["exact"]
    night = await house.close()
    assert (night["mode"], night["night_copy"]["exact"]) == ("night", True)
    assert [await house.world.available(name) for name in names[:3]] == [99_00] * 3


@pytest.mark.parametrize("limits", [{"night_copy_close_ms": 1, "night_copy_chunk": 1}])
async def test_a_close_brings_back_no_longer_than_it_may(house: House) -> None:
    await house.world.open(300, balance=100_00)
    await house.close()
    await house.world.owner.execute("update core.account set balance = balance - 100")
    await house.open()
    refusal = why_not(await house.day.close(asked()))
    assert refusal["code"] == "night_copy_not_exact"
    assert 100 < refusal["changed_keys"] < 310


async def test_a_core_whose_columns_have_other_names_is_refused_in_words(house: House) -> None:
    """What brings the copy back does not know them; that is told, not an error of ours."""
    await house.world.open()
    await house.world.owner.execute("alter table core.account rename balance to amount")
    refusal = why_not(await house.day.close(asked()))
    assert refusal["code"] == "night_copy_not_exact"
    assert "day_alias.account" in refusal["detail"]
    assert await house.mode() == ("day", 1)


@pytest.mark.parametrize("limits", [{"night_copy_close_ms": 0}])
async def test_a_copy_that_lacks_something_does_not_serve(house: House) -> None:
    """The core loads a table anew: refused with what is missing, and nothing has changed."""
    await house.world.open(balance=100_00)
    await house.world.owner.execute("truncate core.block")
    refusal = why_not(await house.day.close(asked("k")))
    assert refusal["code"] == "night_copy_not_exact"
    assert refusal["changed_keys"] >= 1
    assert str(refusal["changed_keys"]) in refusal["detail"]
    assert (await house.mode(), await house.switches()) == (("day", 1), [])
    assert await house.world.requests() == 0, "a refusal that may pass is not kept"


@pytest.mark.parametrize("limits", [{"night_copy_close_ms": 0}])
@pytest.mark.parametrize("change", BEFORE_THE_GATE)
async def test_the_copy_is_asked_again_under_the_gate(
    house: House, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """What becomes inexact between the question and the gate is seen; the gate is let go."""
    asked_for = await _changed_before_the_gate(house, monkeypatch, BEFORE_THE_GATE[change])
    refusal = why_not(await house.day.close(asked()))
    assert refusal["code"] == "night_copy_not_exact"
    assert len(asked_for) == 3, "at first, before the gate, and after it"
    assert await house.mode() == ("day", 1)
    [account] = await house.world.open()
    made(await house.world.engine.submit(debit(account, 1)))


async def test_what_has_changed_before_the_gate_and_is_exact_is_asked_once_more(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_for = await _changed_before_the_gate(
        house, monkeypatch, "grant select on core.block to public"
    )
    await house.close()
    assert len(asked_for) == 3
    assert await house.world.owner.fetchval("select gate_tries from ni.day_switch") == 2


async def test_what_changes_whenever_it_is_asked_is_refused(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_for = await _changed_before_the_gate(
        house, monkeypatch, "grant select on core.block to public", times=9
    )
    assert why_not(await house.day.close(asked()))["code"] == "night_copy_not_exact"
    assert len(asked_for) == 4
    assert await house.mode() == ("day", 1)


async def _changed_before_the_gate(
    house: House, monkeypatch: pytest.MonkeyPatch, change: str, times: int = 1
) -> list[Answer | None]:
    """The answers to the whole question; after the second one, as often as said, comes a change."""
    answers: list[Answer | None] = []
    ask = DaySwitch._refuse_inexact

    async def asked_then_changed(switch: DaySwitch) -> Answer | None:
        answers.append(await ask(switch))
        if 2 <= len(answers) < 2 + times:
            await house.world.owner.execute(change)
        return answers[-1]

    monkeypatch.setattr(DaySwitch, "_refuse_inexact", asked_then_changed)
    return answers
