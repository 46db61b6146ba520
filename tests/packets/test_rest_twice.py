"""Asked of a packet that is empty, another's, or done already: a problem or nothing, no change."""

from __future__ import annotations

import pytest

from tests.packets.door import RETRY, Door, fresh, refused, without_requests

pytestmark = pytest.mark.asyncio(loop_scope="module")

REDIRECT = {"action": "redirect", "reason": "looked at it"}
CANCEL = {"action": "cancel", "reason": "looked at it"}


async def unchanged(door: Door, before: str) -> bool:
    """Whether everything is as it was, the stored answers apart."""
    return without_requests(await door.bank.fingerprint()) == without_requests(before)


async def test_a_booked_packet_is_unloaded_again(door: Door) -> None:
    packet = fresh("am")
    await door.post(await door.open(), "10.00", packet)
    first = await door.unload(packet)
    before = await door.bank.fingerprint()
    for accepted in (True, False):
        again = await door.unload(packet, accepted=accepted)
        assert (again["number"], again["booked"], again["problems_total"]) == (1, 0, 0)
        assert again["status"] == "booked"
    assert first["booked"] == 1
    assert await unchanged(door, before)


async def test_a_packet_whose_postings_were_all_cancelled(door: Door) -> None:
    """It is known, and empty: nothing reaches the core, now or when asked again."""
    packet, account = fresh("am"), await door.open()
    posting = await door.post(account, "10.00", packet)
    cancelled = await door["cash"].post(f"/v1/postings/{posting}/cancel", {"reason": "mistake"})
    assert cancelled.status == 200
    assert (await door.unload(packet))["booked"] == 0
    before = await door.bank.fingerprint()
    assert (await door.unload(packet))["booked"] == 0
    assert await unchanged(door, before)
    assert (await door.balance(account))["available"] == "1000.00"


@pytest.mark.parametrize("client", ["other", "maker", "unloader"])
async def test_another_clients_packet(door: Door, client: str) -> None:
    """Its name means nothing to anybody else, even while that one has a packet of its own."""
    packet = fresh("am")
    await door.post(await door.open(), "10.00", packet)
    before = await door.bank.fingerprint()
    answer = await door[client].post(f"/v1/packets/{packet}/unload", {})
    assert refused(answer) == (404, "packet_not_found")
    assert await unchanged(door, before)
    if client != "unloader":
        await door.post(await door.open(), "3.00", packet, client)
        assert (await door.unload(packet, client))["booked"] == 1
    assert (await door["cash"].get(f"/v1/packets/{packet}")).body["status"] == "open"


async def test_accepting_ones_own_packet(door: Door) -> None:
    """Neither by its client nor by whoever unloaded it; the packet waits on."""
    packet = fresh("am")
    await door.post(await door.open(), "10.00", packet, "maker")
    await door.unload(packet, "maker", accepted=False)
    before = await door.bank.fingerprint()
    for end, body in (("accept", {}), ("reject", {"reason": "no"})):
        answer = await door["maker"].post(f"/v1/packets/{packet}/{end}?client=maker", body)
        assert refused(answer) == (409, "same_client")
    assert await unchanged(door, before)
    accepted = await door["chief"].post(f"/v1/packets/{packet}/accept?client=maker", {})
    assert accepted.status == 200
    before = await door.bank.fingerprint()
    for end, body in (("accept", {}), ("reject", {"reason": "no"})):
        answer = await door["chief"].post(f"/v1/packets/{packet}/{end}?client=maker", body)
        assert refused(answer) == (409, "packet_not_waiting")
    assert await unchanged(door, before)


@pytest.mark.parametrize("first", [RETRY, CANCEL, REDIRECT], ids=lambda body: body["action"])
async def test_a_problem_is_resolved_once(door: Door, first: dict[str, str]) -> None:
    """The second answer says so, whatever it asks; the money stays where the first put it."""
    account, posting = await door.problem()
    other = await door.open()
    await door.post(other, "1.00", fresh("am"))  # NI knows it: naming it adds no row
    path = f"/v1/problems/{posting}/resolve"
    more = {"debit_account": other} if first is REDIRECT else {}
    assert (await door["fixer"].post(path, first | more)).status == 200
    balances = [await door.balance(name) for name in (account, other)]
    before = await door.bank.fingerprint()
    for body in (RETRY, CANCEL, REDIRECT | {"debit_account": other}):
        answer = await door["fixer"].post(path, body)
        assert refused(answer) == (409, "problem_resolved")
    assert await unchanged(door, before)
    after = [await door.balance(name) for name in (account, other)]
    assert [b["available"] for b in after] == [b["available"] for b in balances]


async def test_everything_adds_up(door: Door) -> None:
    assert await door.bank.faults() == []
