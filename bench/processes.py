"""Children of the benchmark: started in sessions of their own, ended with it, whatever happens."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from bench.machine import ROOT

STOP_LIMIT_S = 20
START_LIMIT_S = 60
LOG_TAIL_BYTES = 3_000


_Found = TypeVar("_Found")


class BenchError(Exception):
    """The run cannot go on or its figures would mean nothing; the text says why."""


async def in_time(work: Awaitable[_Found], limit_s: float, what: str) -> _Found:
    """Return what `work` finds. Raises BenchError if that takes longer."""
    try:
        return await asyncio.wait_for(work, limit_s)
    except TimeoutError as error:
        raise BenchError(f"{what} took longer than {limit_s:.0f} s") from error


@asynccontextmanager
async def child(
    module: str, *arguments: str, log: Path, env: Mapping[str, str] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `python -m module` while the block runs; its output goes to the file `log`."""
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", module, *arguments,
            stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
            cwd=ROOT, env={**os.environ, **(env or {})}, start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        await stop(process)


async def stop(process: asyncio.subprocess.Process) -> None:
    """End a child: ask, and after `STOP_LIMIT_S` insist."""
    if process.returncode is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        await asyncio.wait_for(process.wait(), STOP_LIMIT_S)
    except TimeoutError:
        process.kill()
        await process.wait()


async def until_ready(process: asyncio.subprocess.Process, port: int, path: str, log: Path) -> None:
    """Wait until `path` answers 200. Raises BenchError if the child ends or time is up."""
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        if process.returncode is not None:
            raise BenchError(f"it ended with {process.returncode} at start:\n{tail(log)}")
        if await status_of(port, path) == 200:
            return
        await asyncio.sleep(0.1)
    raise BenchError(f"{path} was not ready after {START_LIMIT_S} s:\n{tail(log)}")


async def status_of(port: int, path: str) -> int:
    """Return the status of a GET; 0 if nobody answers."""
    try:
        return (await get(port, path))[0]
    except (OSError, ValueError, IndexError):
        return 0


async def get(port: int, path: str, bearer: str = "") -> tuple[int, bytes]:
    """Return status and body of one GET on a connection of its own."""
    return await _ask(port, f"GET {path}", f"Authorization: Bearer {bearer}\r\n", b"", 10)


async def post(
    port: int, path: str, body: bytes, *, bearer: str, key: str, limit_s: float
) -> tuple[int, bytes]:
    """Return status and body of one POST of JSON on a connection of its own.

    Raises BenchError if there is no answer in time.
    """
    head = (
        f"Authorization: Bearer {bearer}\r\nIdempotency-Key: {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    )
    try:
        return await _ask(port, f"POST {path}", head, body, limit_s)
    except (OSError, IndexError) as error:
        raise BenchError(f"POST {path} had no answer within {limit_s:.0f} s") from error


async def _ask(port: int, what: str, head: str, body: bytes, limit_s: float) -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        top = f"{what} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{head}\r\n"
        writer.write(top.encode() + body)
        answer = await asyncio.wait_for(reader.read(), limit_s)
    finally:
        writer.close()
    status_line, _, found = answer.partition(b"\r\n\r\n")
    return int(status_line.split()[1]), found


def tail(log: Path) -> str:
    """Return the last lines of a log, as much as an error message bears."""
    return log.read_bytes()[-LOG_TAIL_BYTES:].decode("utf-8", "replace")
