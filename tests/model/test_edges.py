"""Edges that a random walk seldom meets: the instant of expiry, many at once, the largest sums."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from tests.model.model import Account
from tests.model.world import World
from tests.support.caller import Answer, fresh_key

SUM_LIMIT = 10**17


class Teller:
    """Shorthand for one world: accounts of one test, and requests that must be approved."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.prefix = world.next_prefix()
        self.cash = self.account("CASH", kind="internal")

    def account(self, name: str, balance: int = 0, kind: str = "customer") -> str:
        account = Account(f"{self.prefix}-{name}", kind, "CZK", balance=balance)
        self.world.open_accounts([account])
        return account.number

    def post(self, path: str, body: dict[str, Any], key: str | None = None) -> Answer:
        content = json.dumps(body).encode()
        return self.world.send("payments", path, content, key or fresh_key())

    def hold(self, account: str, amount: str, **more: Any) -> dict[str, Any]:
        body = {"account": account, "amount": amount, "currency": "CZK"} | more
        return self.approved(self.post("/v1/holds", body))

    def debit_body(self, account: str, amount: str, **more: Any) -> dict[str, Any]:
        body = {"debit_account": account, "credit_account": self.cash, "amount": amount}
        return body | {"currency": "CZK", "packet": "edge"} | more

    def debit(self, account: str, amount: str, **more: Any) -> Answer:
        return self.post("/v1/postings", self.debit_body(account, amount, **more))

    def approved(self, answer: Answer) -> dict[str, Any]:
        assert answer.status in (200, 201), answer.content
        return answer.body

    def balance(self, account: str) -> dict[str, Any]:
        return self.approved(self.world.get(f"/v1/accounts/{account}/balance"))


@pytest.fixture
def teller(world: World) -> Teller:
    world.advance(1)
    return Teller(world)


def test_a_hold_counts_until_the_instant_of_its_expiry(teller: Teller) -> None:
    """Half-open: it counts one microsecond before, and not at the instant itself."""
    account = teller.account("A", balance=100_00)
    expires_at = teller.world.now + timedelta(seconds=10)
    held = teller.hold(account, "100.00", expires_at=expires_at.isoformat())
    path = f"/v1/holds/{held['hold_id']}"
    teller.world.set_now(expires_at - timedelta(microseconds=1))
    assert teller.balance(account)["available"] == "0.00"
    assert teller.world.get(path).body["status"] == "active"
    assert teller.debit(account, "0.01").code == "insufficient_funds"
    teller.world.set_now(expires_at)
    assert teller.balance(account)["available"] == "100.00"
    assert teller.world.get(path).body["status"] == "expired"
    late = teller.post(f"{path}/capture", {"credit_account": teller.cash, "packet": "edge"})
    assert (late.status, late.code) == (409, "hold_expired")
    teller.approved(teller.debit(account, "100.00"))
    assert teller.balance(account)["available"] == "0.00"


def test_a_hold_that_ends_with_its_beginning_is_refused(teller: Teller) -> None:
    """`expires_at` now is in the past already; a microsecond later is not."""
    account = teller.account("A", balance=100_00)
    body = {"account": account, "amount": "1.00", "currency": "CZK"}
    for later, status in [(0, 422), (-1, 422), (1, 201)]:
        expires_at = teller.world.now + timedelta(seconds=later)
        answer = teller.post("/v1/holds", body | {"expires_at": expires_at.isoformat()})
        assert answer.status == status, answer.content


def test_hundreds_of_holds_that_expire_together(teller: Teller) -> None:
    """All of their money is there with the first decision after, whoever has swept them."""
    account = teller.account("A", balance=260_00)
    expires_at = (teller.world.now + timedelta(seconds=5)).isoformat()
    body = {"account": account, "amount": "1.00", "currency": "CZK", "expires_at": expires_at}
    items = [{"operation": "hold", "idempotency_key": fresh_key()} | body for _ in range(250)]
    batch = teller.approved(teller.post("/v1/batches", {"mode": "independent", "items": items}))
    assert batch["approved"] == 250
    assert teller.balance(account)["available"] == "10.00"
    teller.world.advance(5)
    assert teller.balance(account) | {"available": "260.00", "held": "0.00"} == teller.balance(
        account
    )
    teller.approved(teller.debit(account, "260.00"))
    last = batch["results"][-1]["body"]["hold_id"]
    refused = teller.post(f"/v1/holds/{last}/release", {})
    assert (refused.status, refused.code) == (409, "hold_expired")
    assert teller.balance(account)["available"] == "0.00"
    found = teller.world.pages(f"/v1/accounts/{account}/holds", status="expired")
    assert len(found) == 250


def test_the_largest_sums(teller: Teller) -> None:
    """±10^17 minor units is reached and not passed."""
    rich = teller.account("RICH", balance=SUM_LIMIT - 100)
    poor = teller.account("POOR", balance=-SUM_LIMIT + 100)
    credit = {"debit_account": teller.cash, "credit_account": rich}
    over = teller.post("/v1/postings", teller.debit_body(rich, "1.01") | credit)
    assert (over.status, over.code, over.body["account"]) == (409, "amount_out_of_range", rich)
    teller.approved(teller.post("/v1/postings", teller.debit_body(rich, "1.00") | credit))
    under = teller.debit(poor, "1.01", check="none")
    assert (under.status, under.code, under.body["account"]) == (409, "amount_out_of_range", poor)
    teller.approved(teller.debit(poor, "1.00", check="none"))
    assert teller.balance(rich)["available"] == "1000000000000000.00"
    assert teller.balance(poor)["available"] == "-1000000000000000.00"


def test_a_batch_of_many_slices_is_decided_in_order(teller: Teller) -> None:
    """1,300 items on one account: each sees what the ones before it did; eras do not show."""
    account = teller.account("A", balance=1000_00)
    items = [
        {"operation": "posting", "idempotency_key": fresh_key()}
        | teller.debit_body(account, "1.00")
        for _ in range(1300)
    ]
    content = {"mode": "independent", "items": items}
    batch = teller.approved(teller.post("/v1/batches", content))
    assert (batch["approved"], batch["refused"]) == (1000, 300)
    for number, result in enumerate(batch["results"][:1000], start=1):
        leg = result["body"]["debit"]
        assert leg == {"available_after": f"{1000 - number}.00", "sequence": number}
    assert {result["body"]["code"] for result in batch["results"][1000:]} == {"insufficient_funds"}
    again = teller.approved(teller.post("/v1/batches", content))
    assert all(result["replayed"] for result in again["results"])
    assert [r["body"] for r in again["results"]] == [r["body"] for r in batch["results"]]
    assert teller.balance(account) | {"available": "0.00", "sequence": 1000} == teller.balance(
        account
    )


def test_a_refused_atomic_batch_leaves_its_keys_free(teller: Teller) -> None:
    """Nothing at all is stored: the same keys can succeed once the money is there."""
    account = teller.account("A", balance=5_00)
    items = [
        {"operation": "posting", "idempotency_key": fresh_key()}
        | teller.debit_body(account, "2.00")
        for _ in range(4)
    ]
    content = {"mode": "atomic", "items": items}
    first = teller.approved(teller.post("/v1/batches", content))
    codes = [result["body"]["code"] for result in first["results"]]
    assert codes == ["batch_refused", "batch_refused", "insufficient_funds", "batch_refused"]
    assert teller.balance(account)["sequence"] == 0
    credit = {"debit_account": teller.cash, "credit_account": account}
    teller.approved(teller.post("/v1/postings", teller.debit_body(account, "3.00") | credit))
    second = teller.approved(teller.post("/v1/batches", content))
    assert (second["approved"], second["refused"]) == (4, 0)
    assert teller.balance(account)["available"] == "0.00"
    third = teller.approved(teller.post("/v1/batches", content))
    assert [(r["replayed"], r["body"]) for r in third["results"]] == [
        (True, r["body"]) for r in second["results"]
    ]


def test_movements_by_reference(teller: Teller) -> None:
    """A reference finds the account's own movements with it, and no others."""
    account, other = teller.account("A", balance=100_00), teller.account("B", balance=100_00)
    mine = [teller.hold(account, "1.00", reference="INV 7")["hold_id"]]
    teller.hold(account, "1.00", reference="INV 77")
    teller.hold(other, "1.00", reference="INV 7")
    mine.append(teller.approved(teller.debit(account, "1.00", reference="INV 7"))["posting_id"])
    found = teller.world.pages(f"/v1/accounts/{account}/movements", reference="INV 7")
    assert [item[f"{item['movement']}_id"] for item in found] == mine[::-1]
    holds = teller.world.pages(f"/v1/accounts/{account}/holds", reference="INV 7")
    assert [item["hold_id"] for item in holds] == mine[:1]


def test_a_refusal_stays_what_it_was(teller: Teller) -> None:
    """The money has come since: the old key still answers no, a new one answers yes."""
    account = teller.account("A")
    key = fresh_key()
    body = teller.debit_body(account, "2.00")
    first = teller.post("/v1/postings", body, key)
    assert (first.status, first.code) == (409, "insufficient_funds")
    credit = {"debit_account": teller.cash, "credit_account": account}
    teller.approved(teller.post("/v1/postings", teller.debit_body(account, "2.00") | credit))
    again = teller.post("/v1/postings", body, key)
    assert (again.status, again.content, again.replayed) == (409, first.content, True)
    teller.approved(teller.post("/v1/postings", body))


def test_a_key_belongs_to_its_client(teller: Teller) -> None:
    """Two clients may use the same key; each gets an effect of its own."""
    account = teller.account("A", balance=10_00)
    key, body = fresh_key(), json.dumps(teller.debit_body(account, "2.00")).encode()
    one = teller.world.send("payments", "/v1/postings", body, key)
    other = teller.world.send("cards", "/v1/postings", body, key)
    assert (one.status, other.status, other.replayed) == (201, 201, False)
    assert one.body["posting_id"] != other.body["posting_id"]
    assert teller.balance(account)["available"] == "6.00"


def test_an_over_capture_takes_what_the_hold_has_first(teller: Teller) -> None:
    """Only the excess must be available; forced, not even that."""
    account = teller.account("A", balance=100_00)
    held = teller.hold(account, "60.00")
    path = f"/v1/holds/{held['hold_id']}/capture"
    body = {"credit_account": teller.cash, "packet": "edge", "amount": "100.01"}
    assert teller.post(path, body).code == "exceeds_hold"
    short = teller.post(path, body | {"over_capture": "check"})
    assert short.code == "insufficient_funds"
    assert (short.body["available"], short.body["requested"]) == ("40.00", "40.01")
    taken = teller.approved(teller.post(path, body | {"over_capture": "none"}))
    assert taken["debit"]["available_after"] == "-0.01"
    assert (taken["hold"]["status"], taken["hold"]["remaining"]) == ("captured", "0.00")
    assert teller.balance(account)["held"] == "0.00"
