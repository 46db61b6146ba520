"""Scenarios as text that an analyst can read and write.

A file names the business date and the accounts, then has a line a step: when, who, what, and after
`=>` what must come back. docs/how-to/write-a-scenario.md lists the words.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any, Final

from ni.core_ledger import next_weekday
from ni.money import parse_balance
from tests.support.bank import CoreAccount

CORE: Final = "core"
NI: Final = "ni"
WITHOUT_ANSWER: Final = (CORE, NI)
FIRST_DAY: Final = date(1993, 1, 4)
_STEP: Final = re.compile(r"(\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?)\s+([\w.-]+)\s+(.+)")
_AMOUNT: Final = re.compile(r"\d+(\.\d+)?")
Fields = dict[str, Any]


class ScriptError(Exception):
    """A line that cannot be read; the text tells why."""


@dataclass(frozen=True)
class Step:
    """One line of a scenario.

    `target` is an account, or the name that an earlier step gave to its hold or posting. A step of
    the core, or of NI by itself, has no answer. `facts` are the values expected in the answer.
    """

    line: str
    at: datetime
    who: str
    verb: str
    target: str
    body: Fields
    name: str
    outcome: str
    facts: dict[str, str]


@dataclass
class Scenario:
    """A whole file."""

    name: str
    business_date: date = FIRST_DAY
    days_later: int = 0
    accounts: list[CoreAccount] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)

    @property
    def next_business_date(self) -> date:
        """The weekday after the business date."""
        return next_weekday(self.business_date)

    @property
    def day(self) -> date:
        """The day on which the steps that are read now happen."""
        return self.business_date + timedelta(days=self.days_later)


class Words:
    """The words of a line, taken from the left; quotes hold words together."""

    def __init__(self, text: str, day: date) -> None:
        self._words = shlex.split(text)
        self._day = day

    def __bool__(self) -> bool:
        return bool(self._words)

    def take(self) -> str:
        """The next word, whatever it is."""
        if not self._words:
            raise ScriptError("a word is missing at the end")
        return self._words.pop(0)

    def maybe(self, *words: str) -> bool:
        """Whether these words come next; they are taken then."""
        found = self._words[: len(words)] == list(words)
        if found:
            del self._words[: len(words)]
        return found

    def must(self, word: str) -> None:
        """This word comes next."""
        if not self.maybe(word):
            raise ScriptError(f"{word!r} is expected before {' '.join(self._words)!r}")

    def amount(self) -> Fields:
        """The amount that comes next, if one does."""
        found = self._words and _AMOUNT.fullmatch(self._words[0])
        return {"amount": self.take()} if found else {}

    def grouping(self) -> Fields:
        """How the posting reaches the core."""
        if self.maybe("straight", "through"):
            return {"straight_through": True}
        self.must("packet")
        return {"packet": self.take()}

    def instant(self) -> str:
        """A time of the scenario's day, as a client writes it."""
        return instant(self.take(), self._day).isoformat()


def instant(text: str, day: date) -> datetime:
    """10:00, 10:00:30 or 10:00:30.000001 of the scenario's day, in UTC."""
    return datetime.combine(day, time.fromisoformat(text), UTC)


def _debit(words: Words) -> tuple[str, Fields]:
    body: Fields = {"debit_account": words.take()}
    words.must("->")
    body |= {"credit_account": words.take(), "amount": words.take(), "currency": words.take()}
    return "", body | words.grouping()


def _hold(words: Words) -> tuple[str, Fields]:
    return "", {"account": words.take(), "amount": words.take(), "currency": words.take()}


def _capture(words: Words) -> tuple[str, Fields]:
    target, body = words.take(), words.amount()
    words.must("->")
    body["credit_account"] = words.take()
    return target, body | words.grouping()


def _release(words: Words) -> tuple[str, Fields]:
    return words.take(), words.amount()


def _named(words: Words) -> tuple[str, Fields]:
    return words.take(), {}


def _limit(words: Words) -> tuple[str, Fields]:
    return words.take(), {"credit_limit": words.take()}


def _block(words: Words) -> tuple[str, Fields]:
    return words.take(), {"side": words.take()}


def _of_client(words: Words) -> tuple[str, Fields]:
    target = words.take()
    return target, {"of": words.take()} if words.maybe("of") else {}


def _unload(words: Words) -> tuple[str, Fields]:
    target, body = _of_client(words)
    return target, body | ({"accepted": False} if words.maybe("waiting") else {})


def _accept(words: Words) -> tuple[str, Fields]:
    target, body = _of_client(words)
    return target, body | ({"number": int(words.take())} if words.maybe("run") else {})


def _the_day(words: Words) -> tuple[str, Fields]:
    words.must("the")
    words.must("day")
    return "", {}


def _straight_through(words: Words) -> tuple[str, Fields]:
    words.must("straight")
    words.must("through")
    return "", {}


def _resolve(words: Words) -> tuple[str, Fields]:
    target, body = words.take(), {"action": words.take()}
    for side in ("debit", "credit"):
        if words.maybe(side):
            body[f"{side}_account"] = words.take()
    return target, body


VERBS: Final[dict[str, Callable[[Words], tuple[str, Fields]]]] = {
    "debit": _debit,
    "hold": _hold,
    "capture": _capture,
    "release": _release,
    "adjust": _named,
    "cancel": _named,
    "balance": _named,
    "show": _named,
    "packet": _of_client,
    "unload": _unload,
    "accept": _accept,
    "reject": _accept,
    "resolve": _resolve,
    "close": _the_day,
    "open": _the_day,
    "ask": _the_day,
    "again": lambda _words: ("", {}),
}
CORE_VERBS: Final[dict[str, Callable[[Words], tuple[str, Fields]]]] = {
    "blocks": _block,
    "unblocks": _named,
    "closes": _named,
    "limits": _limit,
    "ends": _the_day,
}
NI_VERBS: Final[dict[str, Callable[[Words], tuple[str, Fields]]]] = {
    "unloads": _straight_through,
    "resynchronises": lambda _words: ("", {}),
}
OPTIONS: Final[dict[tuple[str, ...], Callable[[Words], Fields]]] = {
    ("forced",): lambda _words: {"check": "none"},
    ("override",): lambda words: {"override": {"legal_reference": words.take()}},
    ("until",): lambda words: {"expires_at": words.instant()},
    ("without", "expiry"): lambda _words: {"expires_at": None},
    ("to",): lambda words: {"amount": words.take()},
    ("over",): lambda words: {"over_capture": words.take()},
    ("keep", "the", "rest"): lambda _words: {"final": False},
    ("reason",): lambda words: {"reason": words.take()},
    ("link",): lambda words: {"link_id": words.take()},
    ("fee",): lambda words: {"fee": words.take()},
}


def parse(path: Path) -> Scenario:
    """The scenario in a file. Raises ScriptError that names the line."""
    scenario = Scenario(path.stem)
    for number, line in _lines(path):
        try:
            _parse_line(scenario, line)
        except (ScriptError, ValueError) as error:
            raise ScriptError(f"{path.name}, line {number}: {error}") from error
    return scenario


def _lines(path: Path) -> list[tuple[int, str]]:
    """The lines with their numbers; one that begins with a space goes on with the one before."""
    found: list[tuple[int, str]] = []
    for number, whole in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        line = whole.partition("#")[0].rstrip()
        if line.startswith(" ") and found:
            first, begun = found[-1]
            found[-1] = first, f"{begun} {line.strip()}"
        elif line:
            found.append((number, line))
    return found


def _parse_line(scenario: Scenario, line: str) -> None:
    step = _STEP.fullmatch(line)
    if step is not None:
        scenario.steps.append(_parse_step(line, scenario.day, *step.groups()))
        return
    words = Words(line, scenario.business_date)
    if words.maybe("business", "date"):
        scenario.business_date = date.fromisoformat(words.take())
    elif words.maybe("next", "day"):
        scenario.days_later += 1
    else:
        words.must("account")
        scenario.accounts.append(_parse_account(words))
    if words:
        raise ScriptError(f"{words.take()!r} is not understood")


def _parse_account(words: Words) -> CoreAccount:
    account, kind, currency = words.take(), words.take(), words.take()
    balance = parse_balance(words.take(), currency) if words else 0
    limit = parse_balance(words.take(), currency) if words.maybe("limit") else 0
    status = "closed" if words.maybe("closed") else "active"
    return CoreAccount(account, kind, currency, balance, limit, status)


def _parse_step(line: str, day: date, at: str, who: str, rest: str) -> Step:
    action, _, expected = rest.partition("=>")
    words = Words(action, day)
    verb, name = words.take(), ""
    verbs = {CORE: CORE_VERBS, NI: NI_VERBS}.get(who, VERBS)
    if verb not in verbs:
        raise ScriptError(f"{who} cannot {verb!r}")
    target, body = verbs[verb](words)
    while words:
        if words.maybe("as"):
            name = words.take()
            continue
        for option, read in OPTIONS.items():
            if words.maybe(*option):
                body |= read(words)
                break
        else:
            raise ScriptError(f"{words.take()!r} is not understood")
    outcome, facts = _parse_expected(expected.strip())
    if bool(outcome) is (who in WITHOUT_ANSWER):
        raise ScriptError(
            "a step of a client has an answer after =>, one of the core or of ni has none"
        )
    return Step(line, instant(at, day), who, verb, target, body, name, outcome, facts)


def _parse_expected(text: str) -> tuple[str, dict[str, str]]:
    outcome, *facts = (part.strip() for part in text.split(","))
    found = {}
    for fact in facts:
        name, _, value = fact.rpartition(" ")
        if not name:
            raise ScriptError(f"{fact!r} is not a name and a value")
        found[name] = value
    return outcome, found
