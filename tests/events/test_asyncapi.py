"""docs/reference/asyncapi.yaml against real messages, one of every type, out of a real broker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import asyncpg

from ni.clock import utc_now
from ni.commands import AdjustHold
from ni.events import COMMON, EXTRAS, parse, render
from tests.business_day.house import House, open_house, resynchronise
from tests.engine.world import (
    CLIENT,
    PRINT,
    cancel,
    capture,
    debit,
    fresh_key,
    hold,
    id_of,
    made,
    release,
)
from tests.events.house import RelayProcess, Taker, until_empty
from tests.support.bank import CoreAccount
from tests.support.databases import Database
from workers.housekeeping import Housekeeper

_schemas: Final[Any] = import_module("jsonschema_rs")
_yaml: Final[Any] = import_module("yaml")
PRINTED: Final = {"JPY": "12345", "CZK": "123.45", "KWD": "12.345", "CLF": "1.2345"}
"""12,345 minor units of currencies with 0, 2, 3 and 4 decimals."""
PAGE: Final = Path(__file__).parents[2] / "docs" / "reference" / "asyncapi.yaml"


def document() -> dict[str, Any]:
    """The page as it is read."""
    found: dict[str, Any] = _yaml.safe_load(PAGE.read_text())
    return found


def validators(*, strict: bool = True) -> dict[str, Any]:
    """What accepts the messages of each type, as the page describes them.

    Strict: nothing is in a message that the page does not name, which may come to a reader.
    """
    page = document()
    found = {}
    for message in page["components"]["messages"].values():
        payload = message["payload"]
        if strict:
            _, of_type = payload["allOf"]
            payload["unevaluatedProperties"] = False
            of_type["properties"]["data"]["unevaluatedProperties"] = False
        schema = payload | {"components": page["components"]}
        found[message["name"]] = _schemas.Draft202012Validator(schema, validate_formats=True)
    return found


async def live(house: House) -> None:
    """A day in which everything happens that is an event."""
    world, desk = house.world, house.desk
    a, b, gone = await world.open(3)
    engine = world.engine
    held = id_of(await engine.submit(hold(a, 3000, reference="card 7")))
    await engine.submit(
        AdjustHold(client=CLIENT, key=fresh_key(), fingerprint=PRINT, hold_id=held, amount="40")
    )
    await engine.submit(capture(held, "10", credit_account=b, final=False))
    await engine.submit(release(held))
    soon = utc_now() + timedelta(milliseconds=300)
    await engine.submit(hold(a, 500, expires_at=soon))
    await engine.submit(cancel(await desk.post(a, 100, b, narrative="Děkuji, 日本")))
    await engine.submit(debit(a, 900_000_00))
    await desk.post(a, 100, packet="q")
    await desk.post(gone, 100, packet="q")
    await world.bank.close_account(gone)
    await desk.unload("q")
    await desk.post(a, 100, packet="r")
    for decide in (desk.reject, desk.accept):
        await desk.unload("r", accepted=False)
        made(await decide("r"))
    await money(house)
    await asyncio.sleep(0.4)
    await Housekeeper(world.settings, engine).step()
    await resynchronise(house)
    await house.close()
    await house.open()


async def money(house: House) -> None:
    """Every number of decimals that a currency has, and accounts below zero."""
    engine = house.world.engine
    for currency, amount in PRINTED.items():
        (name,) = await house.world.open(currency=currency)
        till = f"CASH-{currency}"
        await house.world.bank.open_accounts([CoreAccount(till, "internal", currency)])
        held = await engine.submit(hold(name, 12345, currency=currency))
        await engine.submit(capture(id_of(held), amount, credit_account=till))
        made(await engine.submit(debit(name, 90_000_00, till, currency=currency, check="none")))
        made(await engine.submit(hold(name, 10**15 - 1, currency=currency, check="none")))
    (name,) = await house.world.open(balance=10**17)
    made(await engine.submit(hold(name, 10**15 - 1)))
    made(await engine.submit(hold(name, 1)))


async def test_real_messages_are_as_described(
    database: Database, owner: asyncpg.Connection, taker: Taker,
    new_relay: Callable[..., RelayProcess],
) -> None:  # fmt: skip
    async with open_house(database, refused_events=True) as house:
        await live(house)
    count = await owner.fetchval("select count(*) from ni.outbox")
    with new_relay():
        await until_empty(owner)
        taker.take_all(count)
    accepted = validators()
    seen = set()
    for body in taker.bodies:
        event = parse(body)
        errors = [error.message for error in accepted[event.type].iter_errors(json.loads(body))]
        assert not errors, (body, errors)
        assert render(event) == body
        seen.add(event.type)
    assert seen == set(EXTRAS), set(EXTRAS) - seen
    told = [event.data for event in map(parse, taker.bodies)]
    captured = [data for data in told if "hold_id" in data]
    assert {(data["currency"], data["amount"]) for data in captured} >= set(PRINTED.items())
    assert all(data["hold_id"] and data["hold_remaining"] for data in captured)
    below = {data["currency"] for data in told if str(data["available_after"]).startswith("-")}
    assert below >= set(PRINTED)


def test_the_page_has_every_type_with_its_fields() -> None:
    page = document()
    assert page["asyncapi"].startswith("3.")
    assert set(validators()) == set(EXTRAS)
    channel = page["channels"]["events"]
    assert set(channel["messages"]) == set(page["components"]["messages"])
    assert channel["address"] == channel["bindings"]["amqp"]["exchange"]["name"] == "ni.events"
    assert set(page["components"]["schemas"]["data"]["required"]) == set(COMMON)


def test_what_is_not_described_is_refused() -> None:
    """The schemas refuse: each of these differs in one thing from a message that passes."""
    validator = validators()["ni.posting.created"]
    data = {
        "account": "CZ1", "client": "c", "amount": "5.00", "currency": "CZK",
        "direction": "debit", "available_after": "-1.00", "sequence": 1, "epoch": 1,
        "movement_id": "01a20000-0000-7000-8000-000000000000", "reference": None,
        "narrative": None,
    }  # fmt: skip
    message: dict[str, Any] = {
        "specversion": "1.0", "id": "01a20000-0000-7000-8000-000000000001", "source": "urn:ni",
        "type": "ni.posting.created", "subject": "CZ1", "time": "2026-11-22T10:00:00.123456Z",
        "datacontenttype": "application/json", "data": data,
    }  # fmt: skip
    assert validator.is_valid(message)
    for wrong in (
        {"amount": 5}, {"amount": "-5.00"}, {"sequence": None}, {"direction": "up"},
        {"account": "cz1"}, {"movement_id": "7"}, {"packet": "p"}, {"currency": None},
    ):  # fmt: skip
        assert not validator.is_valid(message | {"data": data | wrong}), wrong
    for wrong in ({"id": "7"}, {"time": "today"}, {"type": "ni.hold.placed"}, {"source": "x"},
                  {"extra": 1}):  # fmt: skip
        assert not validator.is_valid(message | wrong), wrong
    assert validators(strict=False)["ni.posting.created"].is_valid(
        message | {"extra": 1, "data": data | {"packet": "p"}}
    ), "a later version may say more"
    for name in COMMON:
        less = {key: value for key, value in data.items() if key != name}
        assert not validator.is_valid(message | {"data": less}), name
