"""Places of a decision where a test lets somebody else act."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import pytest

import ni.decide
import ni.transaction
import ni.writing
from ni.batch_state import Answer, Effects, Snapshot
from ni.commands import Command
from ni.transaction import Plan

if TYPE_CHECKING:
    from ni.database import Session

Action = Callable[[], Awaitable[None]]


def once(action: Action) -> Action:
    """`action` the first time, nothing afterwards."""
    left = [action]

    async def acted() -> None:
        if left:
            await left.pop()()

    return acted


def after_locate(patch: pytest.MonkeyPatch, action: Action) -> None:
    """Act when a transaction has found its movements' accounts and has locked nothing yet."""
    locate = Plan.locate

    async def hooked(self: Plan, connection: Session) -> None:
        await locate(self, connection)
        await action()

    patch.setattr(Plan, "locate", hooked)


def before_write(
    patch: pytest.MonkeyPatch, action: Callable[[Session, Effects], Awaitable[None]]
) -> None:
    """Act when a transaction has decided, under its locks, and has written nothing yet."""
    write = ni.writing.write

    async def hooked(connection: Session, effects: Effects, buckets: int) -> None:
        await action(connection, effects)
        await write(connection, effects, buckets)

    patch.setattr(ni.transaction, "write", hooked)


def after_decide(patch: pytest.MonkeyPatch, action: Callable[[Effects], None]) -> None:
    """Change what a transaction is about to write, as a bug would."""
    decide = ni.decide.decide

    def hooked(snapshot: Snapshot, commands: Sequence[Command]) -> tuple[list[Answer], Effects]:
        answers, effects = decide(snapshot, commands)
        action(effects)
        return answers, effects

    patch.setattr(ni.transaction, "decide", hooked)


def count_runs(patch: pytest.MonkeyPatch) -> list[type[BaseException] | None]:
    """Every transaction that is run from now on: how it ended, None for a commit."""
    ends: list[type[BaseException] | None] = []
    run = ni.transaction.run

    async def counted(*arguments: Any, **more: Any) -> list[Answer]:
        try:
            answers = await run(*arguments, **more)
        except BaseException as error:
            ends.append(type(error))
            raise
        ends.append(None)
        return answers

    patch.setattr(ni.transaction, "run", counted)
    return ends
