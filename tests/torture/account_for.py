"""After a crash: replays what was not answered and accounts for every movement."""

from __future__ import annotations

import asyncio
from typing import Final

from tests.support.bank import Bank
from tests.support.wire import NO_ANSWER
from tests.torture.load import Load, Sent

RESOLVE_SECONDS: Final = 5.0
SAMPLE: Final = 40


class UnaccountedError(AssertionError):
    """Something that was acknowledged is not there once, or a figure is wrong."""


async def resolve_unanswered(load: Load, seconds: float = RESOLVE_SECONDS) -> None:
    """Send every unanswered request again with its key until it is answered.

    Raises UnaccountedError when one has no answer within `seconds`.
    """
    async with asyncio.timeout(seconds):
        while load.unanswered:
            again, load.unanswered = load.unanswered, []
            for sent in again:
                answered = await load.send(sent)
                load.resolved += sent.answer is not None
                if not answered:
                    await asyncio.sleep(0.05)


async def assert_same_again(load: Load, sent: Sent) -> None:
    """A key that was answered gives the same bytes for ever."""
    answer = await load.caller.send(sent.path, sent.content, sent.key)
    first = sent.answer
    if first is None or (answer.status, answer.content) != (first.status, first.content):
        raise UnaccountedError(f"{sent.key}: {answer.content!r} after {first and first.content!r}")
    if not answer.replayed:
        raise UnaccountedError(f"{sent.key}: answered and not kept: {answer.content!r}")


async def account_for(load: Load, bank: Bank) -> None:
    """Every acknowledged movement is there exactly once, nothing else is, and all figures agree."""
    if load.faults:
        raise UnaccountedError("; ".join(load.faults[:5]))
    recent = load.acknowledged[-400:]
    for sent in load.draw.sample(recent, min(SAMPLE, len(recent))):
        await assert_same_again(load, sent)
    await compare(bank, "select posting_id::text from ni.posting where home", load.postings)
    await compare(bank, "select hold_id::text from ni.hold", load.holds)
    faults = await bank.faults()
    if faults:
        raise UnaccountedError("; ".join(faults[:5]))


async def compare(bank: Bank, question: str, acknowledged: list[str]) -> None:
    """The rows that are there are those that were acknowledged, each once."""
    rows = [row[0] for row in await bank.owner.fetch(question)]
    lost, extra = set(acknowledged) - set(rows), set(rows) - set(acknowledged)
    if lost or extra or len(rows) != len(acknowledged):
        raise UnaccountedError(
            f"{len(rows)} rows, {len(acknowledged)} acknowledged; lost {sorted(lost)[:3]},"
            f" without an answer {sorted(extra)[:3]}"
        )


async def wait_answering(load: Load, seconds: float) -> None:
    """Wait until the API decides again; raises TimeoutError when it takes longer."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                answer = await load.caller.get("/v1/accounts/TORTURE-0/balance")
            except NO_ANSWER:
                await asyncio.sleep(0.02)
                continue
            if answer.status == 200:
                return
            await asyncio.sleep(0.02)
