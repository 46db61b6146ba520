"""A Hypothesis state machine: a bank's morning, drawn at random, against the model.

Every step sends one request (or moves the clock, or lets the core change something) and compares
the whole answer; after it the balances of the accounts concerned are read and compared too.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from tests.model.compare import check_answer, check_balance, check_hold, check_posting
from tests.model.draws import (
    ACCOUNTS,
    AMOUNTS,
    CHECKS,
    CLIENTS,
    CREDITS,
    EXPIRIES,
    NAMES,
    OVERRIDES,
    OVERS,
    PAIRS,
    PICKS,
    UNKNOWN,
    bank_of,
    money,
    without_nones,
)
from tests.model.model import Account, Body, Command, Hold, Model, Posting
from tests.model.world import Sent, World
from tests.support.caller import fresh_key

UNKNOWN_ID = "01890a5d-ac96-774b-bcce-b302099a8057"


class MorningMachine(RuleBasedStateMachine):
    """One example: its own accounts, the shared server and clock."""

    world: World

    def __init__(self) -> None:
        super().__init__()
        self.prefix = self.world.next_prefix()
        self.model = Model(bank_of(self.prefix))
        self.sent: list[Sent] = []
        self.world.open_accounts(self.model.accounts.values())
        self.world.advance(60)

    @property
    def now(self) -> datetime:
        return self.world.now

    def number(self, name: str) -> str:
        return f"{self.prefix}-{name}"

    def known(self, name: str) -> Account | None:
        return self.model.accounts.get(self.number(name))

    def amount_text(self, drawn: tuple[str, int], name: str, currency: str) -> str:
        """The drawn amount; `edge` ones are relative to what is available on the account."""
        account = self.known(name)
        base = 0
        if drawn[0] == "edge" and account is not None:
            base = self.model.available(account, self.now)
        return money(max(base + drawn[1], 1), currency)

    def target(self, pick: int, among: list[Any]) -> int | None:
        """One of the last few things made; sometimes one that does not exist."""
        return None if not among or pick == UNKNOWN else (len(among) - 1 - pick % 6) % len(among)

    def submit(self, command: Command) -> None:
        """Send one command, compare the answer, keep it for replays, compare the balances."""
        path = command.path(self.identifier(command))
        content, key = json.dumps(command.body).encode(), fresh_key()
        outcome = self.model.decide(command, self.now)
        answer = self.world.send(command.client, path, content, key)
        check_answer(self.model, outcome, answer, self.now)
        assert not answer.replayed
        self.sent.append(Sent(command, path, content, key, answer))
        self.compare_balances(self.concerned(command))

    def identifier(self, command: Command) -> str:
        if command.target is None:
            return UNKNOWN_ID
        if command.operation == "cancel":
            return self.model.postings[command.target].posting_id
        return self.model.holds[command.target].hold_id

    def concerned(self, command: Command) -> set[str]:
        """The accounts that a command touches."""
        body, target = command.body, command.target
        named = {body.get(field) for field in ("account", "debit_account", "credit_account")}
        if target is not None and command.operation == "cancel":
            posting = self.model.postings[target]
            named |= {posting.debit.number, posting.credit.number}
        elif target is not None:
            named.add(self.model.holds[target].account.number)
        return {str(name) for name in named if name in self.model.accounts}

    def compare_balances(self, numbers: set[str]) -> None:
        for number in sorted(numbers):
            answer = self.world.get(f"/v1/accounts/{number}/balance")
            check_balance(self.model, self.model.accounts[number], answer, self.now)

    def hold_body(
        self, name: str, amount: tuple[str, int], check: str | None, expiry: int | None
    ) -> Body:
        account = self.known(name)
        currency = account.currency if account else "CZK"
        body = {
            "account": self.number(name),
            "amount": self.amount_text(amount, name, currency),
            "currency": currency,
            "check": check,
            "expires_at": self.world.later(expiry),
        }
        return without_nones(body)

    def posting_body(
        self, debit: str, credit: str, amount: tuple[str, int], check: str | None
    ) -> Body:
        account = self.known(debit)
        currency = account.currency if account else "CZK"
        body = {
            "debit_account": self.number(debit),
            "credit_account": self.number(credit),
            "amount": self.amount_text(amount, debit, currency),
            "currency": currency,
            "packet": "cash-am",
            "check": check,
        }
        return without_nones(body)

    @rule(client=CLIENTS, name=NAMES, amount=AMOUNTS, check=CHECKS, expiry=EXPIRIES, by=OVERRIDES)
    def hold(
        self,
        client: str,
        name: str,
        amount: tuple[str, int],
        check: str | None,
        expiry: int | None,
        by: Body | None,
    ) -> None:
        body = self.hold_body(name, amount, check, expiry)
        body |= without_nones({"override": by, "reference": "shop 7", "kind": "authorization"})
        self.submit(Command(client, "hold", None, body))

    @rule(name=NAMES, amount=AMOUNTS)
    def hold_in_another_currency(self, name: str, amount: tuple[str, int]) -> None:
        body = self.hold_body(name, amount, None, None)
        currency = "EUR" if body["currency"] == "CZK" else "CZK"
        body |= {"currency": currency, "amount": "1.00"}
        self.submit(Command("payments", "hold", None, body))

    @rule(client=CLIENTS, pair=PAIRS, amount=AMOUNTS, check=CHECKS, by=OVERRIDES)
    def posting(
        self,
        client: str,
        pair: tuple[str, str],
        amount: tuple[str, int],
        check: str | None,
        by: Body | None,
    ) -> None:
        body = self.posting_body(*pair, amount, check) | without_nones({"override": by})
        if amount[1] % 3 == 0:
            del body["packet"]
            body["straight_through"] = True
        self.submit(Command(client, "posting", None, body))

    @precondition(lambda self: self.model.holds)
    @rule(
        client=CLIENTS,
        pick=PICKS,
        amount=st.none() | AMOUNTS,
        credit=CREDITS,
        final=st.sampled_from([None, True, False]),
        over=OVERS,
        by=OVERRIDES,
    )
    def capture(
        self,
        client: str,
        pick: int,
        amount: tuple[str, int] | None,
        credit: str,
        final: bool | None,
        over: str | None,
        by: Body | None,
    ) -> None:
        target = self.target(pick, self.model.holds)
        body = without_nones({"final": final, "over_capture": over, "override": by})
        body |= {"credit_account": self.number(credit), "packet": "card.2031"}
        if target is not None:
            hold = self.model.holds[target]
            if hold.account.number == body["credit_account"]:
                return
            body |= self.part_of(hold, amount)
        self.submit(Command(client, "capture", target, body))

    def part_of(self, hold: Hold, amount: tuple[str, int] | None) -> Body:
        """An amount near what remains of the hold, or none at all."""
        if amount is None:
            return {}
        base = hold.remaining if amount[0] == "edge" else 0
        return {"amount": money(max(base + amount[1], 1), hold.account.currency)}

    @precondition(lambda self: self.model.holds)
    @rule(client=CLIENTS, pick=PICKS, amount=st.none() | AMOUNTS)
    def release(self, client: str, pick: int, amount: tuple[str, int] | None) -> None:
        target = self.target(pick, self.model.holds)
        body = {} if target is None else self.part_of(self.model.holds[target], amount)
        self.submit(Command(client, "release", target, body))

    @precondition(lambda self: self.model.holds)
    @rule(
        client=CLIENTS,
        pick=PICKS,
        amount=AMOUNTS,
        by=st.sampled_from(["amount", "funds", "expiry", "forever"]),
        seconds=st.sampled_from([30, 3600]),
        check=CHECKS,
    )
    def adjust(
        self,
        client: str,
        pick: int,
        amount: tuple[str, int],
        by: str,
        seconds: int,
        check: str | None,
    ) -> None:
        target = self.target(pick, self.model.holds)
        body: Body = {"check": check} if check else {}
        if by == "expiry":
            body["expires_at"] = self.world.later(seconds)
        elif by == "forever":
            body["expires_at"] = None
        elif target is not None:
            body["amount"] = self.new_total(self.model.holds[target], amount, by)
        else:
            body["amount"] = "1"
        self.submit(Command(client, "adjust", target, body))

    def new_total(self, hold: Hold, amount: tuple[str, int], by: str) -> str:
        """Near what is used up, or as far as the available balance reaches."""
        base = hold.captured + hold.released
        if by == "funds":
            base = hold.amount + self.model.available(hold.account, self.now)
        total = base + amount[1] if amount[0] == "edge" else amount[1]
        return money(max(total, 1), hold.account.currency)

    @precondition(lambda self: self.model.postings)
    @rule(client=CLIENTS, pick=PICKS, check=CHECKS)
    def cancel(self, client: str, pick: int, check: str | None) -> None:
        body = without_nones({"reason": "entered twice", "check": check})
        target = self.target(pick, self.model.postings)
        self.submit(Command(client, "cancel", target, body))

    @rule(seconds=st.sampled_from([1, 30, 59, 60, 3600]))
    def time_passes(self, seconds: int) -> None:
        self.world.advance(seconds)
        self.compare_balances({hold.account.number for hold in self.model.holds})

    @precondition(lambda self: self.sent)
    @rule(pick=PICKS, again=st.sampled_from(["same bytes", "other spelling"]))
    def replay(self, pick: int, again: str) -> None:
        sent = self.sent[len(self.sent) - 1 - pick % len(self.sent)]
        content = sent.content if again == "same bytes" else respelt(sent.command.body)
        answer = self.world.send(sent.command.client, sent.path, content, sent.key)
        assert (answer.status, answer.content) == (sent.answer.status, sent.answer.content)
        assert answer.headers["content-type"] == sent.answer.headers["content-type"]
        assert answer.replayed
        self.compare_balances(self.concerned(sent.command))

    @precondition(lambda self: self.sent)
    @rule(pick=PICKS)
    def reuse_a_key(self, pick: int) -> None:
        sent = self.sent[len(self.sent) - 1 - pick % len(self.sent)]
        content = json.dumps(sent.command.body | {"actor": "somebody else"}).encode()
        answer = self.world.send(sent.command.client, sent.path, content, sent.key)
        assert (answer.status, answer.code) == (422, "idempotency_key_reused"), answer.content
        self.compare_balances(self.concerned(sent.command))

    @rule(name=ACCOUNTS, side=st.sampled_from([None, None, None, "debit", "credit", "all"]))
    def core_blocks(self, name: str, side: str | None) -> None:
        account = self.model.accounts[self.number(name)]
        self.world.set_blocks(account, {side} if side else set())
        self.compare_balances({account.number})

    @rule(name=ACCOUNTS, balance=st.integers(-10, 120), limit=st.integers(0, 40))
    def core_books(self, name: str, balance: int, limit: int) -> None:
        account = self.model.accounts[self.number(name)]
        self.world.set_money(account, balance * 100, limit * 100)
        self.compare_balances({account.number})

    @rule(
        mode=st.sampled_from(["independent", "atomic"]),
        legs=st.lists(st.tuples(PAIRS, AMOUNTS, CHECKS, st.booleans()), min_size=1, max_size=5),
        pick=PICKS,
    )
    def batch(
        self,
        mode: str,
        legs: list[tuple[tuple[str, str], tuple[str, int], str | None, bool]],
        pick: int,
    ) -> None:
        commands = [self.item(*leg) for leg in legs]
        if self.model.holds and pick % 2:
            target = self.target(pick, self.model.holds)
            commands.append(Command("payments", "release", target, {}))
        ids = [self.identifier(command) for command in commands]
        self.world.send_batch(self.model, mode, commands, ids)
        self.compare_balances(set().union(*(self.concerned(c) for c in commands)))

    def item(
        self, pair: tuple[str, str], amount: tuple[str, int], check: str | None, is_hold: bool
    ) -> Command:
        if is_hold:
            return Command("payments", "hold", None, self.hold_body(pair[0], amount, check, 60))
        return Command("payments", "posting", None, self.posting_body(*pair, amount, check))

    def teardown(self) -> None:
        """Every hold and posting by its id, and every account's list of movements."""
        if not self.model.movements:
            return
        for hold in self.model.holds:
            answer = self.world.get(f"/v1/holds/{hold.hold_id}", hold.client)
            check_hold(hold, answer.body, self.now)
        for posting in self.model.postings:
            answer = self.world.get(f"/v1/postings/{posting.posting_id}", posting.client)
            check_posting(posting, answer.body)
        for account in self.model.accounts.values():
            self.compare_movements(account)
            self.compare_holds(account)

    def compare_holds(self, account: Account) -> None:
        """An account's holds by status; what has expired is listed so before anybody swept it."""
        for status in ("active", "captured", "released", "expired"):
            found = self.world.pages(f"/v1/accounts/{account.number}/holds", status=status)
            expected = [
                hold.hold_id
                for hold in self.model.holds
                if hold.account is account and hold.status(self.now) == status
            ]
            assert sorted(item["hold_id"] for item in found) == sorted(expected), status

    def compare_movements(self, account: Account) -> None:
        expected = [identity(m) for m in self.model.movements if concerns(m, account)]
        pages = self.world.pages(f"/v1/accounts/{account.number}/movements")
        found = [item[f"{item['movement']}_id"] for item in pages]
        if account.is_customer:
            assert found == expected[::-1]
        else:
            assert sorted(found) == sorted(expected)


def identity(movement: Hold | Posting) -> str:
    return movement.hold_id if isinstance(movement, Hold) else movement.posting_id


def concerns(movement: Hold | Posting, account: Account) -> bool:
    if isinstance(movement, Hold):
        return movement.account is account
    return account in (movement.debit, movement.credit)


def respelt(body: Body) -> bytes:
    """The same request in other bytes: key order, white space, digits after the point."""
    other = dict(reversed(body.items()))
    text = other.get("amount")
    if isinstance(text, str) and text.endswith(".00"):
        other["amount"] = text.removesuffix(".00")
    return json.dumps(other, indent=3).encode()
