"""An answer of a mixed state is found, whatever it is that does not belong together."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bench.load_spec import LoadSpec
from bench.night_answers import kind_of, mixed_state
from bench.night_load import run
from bench.night_spec import KINDS, NightResult, NightSpec
from bench.night_trace import Trace

OPENING, BOOKED = 1_000_000, 10_000
Document = dict[str, Any]


def spec(trace: Path = Path("trace"), *, port: int = 1, rate: float = 200) -> NightSpec:
    load = LoadSpec(
        kind="posting", port=port, connections=8, seconds=0.5, warm_seconds=0, bearer="key",
        accounts=10, rate=rate, packet=None,
    )  # fmt: skip
    return NightSpec(
        load=load, opening_minor=OPENING, booked_minor=BOOKED, first_epoch=5,
        first_date="1993-01-04", trace=str(trace),
    )  # fmt: skip


def shown(minor: int) -> str:
    return f"{minor // 100}.{minor % 100:02d}"


def read(epoch: int = 5, nights: int = 0, spent: int = 0, **more: Any) -> Document:
    """A balance as NI answers it in an epoch, on a base that has seen so many nights."""
    booked = OPENING + nights * BOOKED
    return {
        "account": "CZ1", "epoch": epoch, "mode": "night" if epoch % 2 == 0 else "day",
        "business_date": f"1993-01-0{4 + (epoch - 4) // 2}", "booked": shown(booked),
        "pending": f"-{shown(spent)}", "held": "0.00", "credit_limit": "0.00",
        "available": shown(booked - spent),
    } | more  # fmt: skip


def hold(epoch: int = 5, nights: int = 0, spent: int = 1) -> Document:
    available = OPENING + nights * BOOKED - spent
    return {"hold_id": "h", "epoch": epoch, "available_after": shown(available)}


def debit(epoch: int = 5, nights: int = 0, spent: int = 1, **more: Any) -> Document:
    available = OPENING + nights * BOOKED - spent
    return {
        "posting_id": "p", "epoch": epoch, "value_date": f"1993-01-0{4 + (epoch - 4) // 2}",
        "debit": {"available_after": shown(available), "sequence": 1},
    } | more  # fmt: skip


@pytest.mark.parametrize("make", [read, hold, debit])
@pytest.mark.parametrize("spent", [0, 1, BOOKED - 1])
@pytest.mark.parametrize(("epoch", "nights"), [(5, 0), (6, 0), (7, 1), (8, 1), (9, 2)])
def test_what_belongs_together_is_no_fault(
    make: Callable[..., Document], spent: int, epoch: int, nights: int
) -> None:
    assert mixed_state(spec(), make(epoch, nights, spent=spent)) is None


@pytest.mark.parametrize("make", [read, hold, debit])
@pytest.mark.parametrize("spent", [0, 1, BOOKED - 1])
@pytest.mark.parametrize(("epoch", "nights"), [(5, 1), (6, 1), (7, 0), (7, 2), (8, 2), (9, 1)])
def test_a_base_of_another_epoch_is_found(
    make: Callable[..., Document], spent: int, epoch: int, nights: int
) -> None:
    assert "nights in" in (mixed_state(spec(), make(epoch, nights, spent=spent)) or "")


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        (read(6, mode="day"), "mode night"),
        (read(5, mode="night"), "mode day"),
        (read(6, business_date="1993-01-04"), "business date 1993-01-05"),
        (read(7, 1, business_date="1993-01-06"), "business date 1993-01-05"),
        (read(5, held="0.01"), "the sum of its parts"),
        (read(5, available=shown(OPENING - 1)), "the sum of its parts"),
        (debit(6, value_date="1993-01-04"), "value date 1993-01-05"),
        (debit(5, value_date="1993-01-05"), "value date 1993-01-04"),
    ],
    ids=[
        "day by night", "night by day", "date of the day by night", "date of the next night",
        "held twice", "one unit", "value date of the day", "value date of the night",
    ],
)  # fmt: skip
def test_what_does_not_belong_together_is_told(document: Document, fault: str) -> None:
    assert fault in (mixed_state(spec(), document) or "")


def test_the_kind_is_read_off_the_document() -> None:
    documents = [debit(), hold(), debit(hold=hold()), read()]
    assert [kind_of(document) for document in documents] == list(KINDS)


def test_what_is_asked_for_crosses_the_pipe_unchanged() -> None:
    assert NightSpec.from_json(spec().to_json()) == spec()
    result = NightResult(
        seconds=1.5,
        calls=1,
        late=0,
        approved=1,
        failures=0,
        mixed=0,
        checked=1,
        of_kind={"hold": 1},
    )
    assert NightResult.from_json(result.to_json()) == result


class Bank:
    """Answers like NI by day; `wrong` may replace the answer of a number."""

    def __init__(self, wrong: dict[int, tuple[int, Document]] | None = None) -> None:
        self.wrong = wrong or {}
        self.paths: list[str] = []

    def answer(self, line: str) -> tuple[int, Document]:
        method, path, _ = line.split()
        self.paths.append(path)
        if len(self.paths) in self.wrong:
            return self.wrong[len(self.paths)]
        if method == "GET":
            return 200, read()
        if path.endswith("/capture"):
            return 201, debit(hold=hold())
        return 201, hold() if path == "/v1/holds" else debit()


@asynccontextmanager
async def served(bank: Bank) -> AsyncIterator[int]:
    """Serves the bank by HTTP; yields the port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = head.lower().partition("content-length: ")[2].split("\r\n")[0]
                await reader.readexactly(int(length or 0))
                status, document = bank.answer(head.split("\r\n")[0])
                body = json.dumps(document).encode()
                writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(body)))
                writer.write(body)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    made = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with made:
        yield made.sockets[0].getsockname()[1]


async def loaded(bank: Bank, trace: Path) -> NightResult:
    async with served(bank) as port:
        return await run(spec(trace, port=port), asyncio.Event(), lambda: None)


async def test_a_load_asks_for_each_kind_in_turn_and_tests_every_answer(tmp_path: Path) -> None:
    bank, trace = Bank(), tmp_path / "trace"
    result = await loaded(bank, trace)
    assert (result.failures, result.mixed, result.samples) == (0, 0, [])
    assert result.checked == len(bank.paths) == sum(result.of_kind.values())
    assert set(result.of_kind) == set(KINDS)
    assert max(result.of_kind.values()) - min(result.of_kind.values()) <= 2
    assert result.approved == result.of_kind["debit"] + result.of_kind["capture"]
    calls = Trace.read(trace).calls
    assert len(calls) == result.calls == pytest.approx(100, abs=2)
    assert all(took > 0 for _, took in calls)


@pytest.mark.parametrize(
    "planted", [read(6), hold(5, 1), debit(6, 0, value_date="1993-01-04")],
    ids=["read", "hold", "debit"],
)  # fmt: skip
async def test_one_planted_mixed_answer_is_found(tmp_path: Path, planted: Document) -> None:
    if "mode" in planted:
        planted = planted | {"mode": "day"}
    status = 200 if kind_of(planted) == "read" else 201
    result = await loaded(Bank({21: (status, planted)}), tmp_path / "trace")
    assert (result.mixed, result.failures) == (1, 0)
    assert "epoch" in result.samples[0]


@pytest.mark.parametrize("status", [200, 409, 500, 503])
async def test_one_planted_refusal_is_a_failed_call(tmp_path: Path, status: int) -> None:
    result = await loaded(Bank({21: (status, debit())}), tmp_path / "trace")
    assert (result.failures, result.mixed) == (1, 0)
    assert str(status) in result.samples[0]
