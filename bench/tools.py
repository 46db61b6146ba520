"""Runs the two programs that make load: our generator and PostgreSQL's pgbench."""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit, urlunsplit

from bench.figures import Sample
from bench.load_spec import BEGUN, LoadResult, LoadSpec
from bench.machine import ROOT
from bench.night_spec import NightSpec
from bench.processes import BenchError, in_time

SPARE_S = 60
_Stream = TypeVar("_Stream", asyncio.StreamReader, asyncio.StreamWriter)
# The plans that NI's own pools ask for; without them PL/pgSQL keeps plans made on empty tables.
PGBENCH_OPTIONS = "-c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off -c jit=off"


async def run_load(spec: LoadSpec) -> LoadResult:
    """Run one load in a process of its own.

    Raises BenchError if any answer was not the expected one: a rate of refusals is no rate.
    """
    limit = spec.warm_seconds + spec.seconds + SPARE_S
    output = await _run([sys.executable, "-m", "bench.load"], spec.to_json().encode(), limit)
    return _checked(output)


class OpenRun:
    """An open-loop load that is under way in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, spec: LoadSpec | NightSpec) -> None:
        """Belong to a process that has been given its spec."""
        self._process, self._spec = process, spec
        self._stdin = _pipe(process.stdin)
        self._stdout, self._stderr = _pipe(process.stdout), _pipe(process.stderr)

    async def begun(self) -> None:
        """Wait until the measured part begins."""
        limit_s = self._spec.warm_seconds + SPARE_S
        line = await in_time(self._stdout.readline(), limit_s, "the warm-up of an open loop")
        if line.decode().strip() != BEGUN:
            raise BenchError(f"the open loop did not begin:\n{await self._errors()}")

    async def stop(self) -> LoadResult:
        """End it now; return what it found. Raises as `result` does."""
        self.end()
        return await self.result()

    async def result(self) -> LoadResult:
        """Wait for its end. Raises BenchError if an answer was not the expected one."""
        return _checked(await self.output())

    def end(self) -> None:
        """Let nothing more become due."""
        self._stdin.close()

    async def output(self) -> str:
        """Wait for its end; return what it printed. Raises BenchError if it has failed."""
        limit_s = self._spec.seconds + SPARE_S
        output = await in_time(self._stdout.read(), limit_s, "an open loop")
        if await self._process.wait() != 0:
            raise BenchError(f"the open loop failed:\n{await self._errors()}")
        return output.decode()

    async def _errors(self) -> str:
        return (await self._stderr.read()).decode()


@asynccontextmanager
async def open_load(spec: LoadSpec | NightSpec) -> AsyncIterator[OpenRun]:
    """Offer a load for as long as the block runs, or as long as the spec says."""
    module = "bench.open_load" if isinstance(spec, LoadSpec) else "bench.night_load"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        cwd=ROOT, start_new_session=True,
    )  # fmt: skip
    try:
        _pipe(process.stdin).write(spec.to_json().encode() + b"\n")
        yield OpenRun(process, spec)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _pipe(stream: _Stream | None) -> _Stream:
    if stream is None:
        raise BenchError("a process was started without its pipes")
    return stream


def _checked(output: str) -> LoadResult:
    result = LoadResult.from_json(output)
    if result.failures:
        shown = "\n".join(result.samples)
        raise BenchError(f"{result.failures} answers were not the expected one:\n{shown}")
    return result


async def run_pgbench(
    program: Path, dsn: str, clients: int, seconds: int, accounts: int
) -> tuple[Sample, int]:
    """Run pgbench on the baseline's function; return its figures and its transactions.

    Raises BenchError if a transaction failed.
    """
    threads = min(clients, os.cpu_count() or 1)
    options = [
        f"--client={clients}", f"--jobs={threads}", f"--time={seconds}",
        f"--define=accounts={accounts}",
    ]  # fmt: skip
    return await _pgbench(program, dsn, "pgbench_debit", options, seconds + SPARE_S)


async def run_one_by_one(program: Path, dsn: str, postings: int) -> Sample:
    """Book so many postings with pgbench, a commit each, on one connection; return its figures.

    Raises BenchError if a transaction failed.
    """
    options = ["--client=1", f"--transactions={postings}", "--define=number=0"]
    sample, done = await _pgbench(program, dsn, "pgbench_book", options, postings / 10 + SPARE_S)
    if done != postings:
        raise BenchError(f"pgbench booked {done} postings of {postings}")
    return sample


async def _pgbench(
    program: Path, dsn: str, script: str, options: list[str], limit_s: float
) -> tuple[Sample, int]:
    address, password = _without_password(dsn)
    file = ROOT / "bench" / "sql" / f"{script}.pgbench"
    command = [
        str(program), "--no-vacuum", "--protocol=prepared", *options, f"--file={file}", address,
    ]  # fmt: skip
    env = {**os.environ, "PGPASSWORD": password, "PGOPTIONS": PGBENCH_OPTIONS}
    output = await _run(command, b"", limit_s, env)
    if _number(r"number of failed transactions: (\d+)", output):
        raise BenchError(f"pgbench had failures:\n{output}")
    sample = Sample(
        rate=_number(r"tps = ([\d.]+)", output),
        mean_ms=_number(r"latency average = ([\d.]+) ms", output),
    )
    return sample, int(_number(r"transactions actually processed: (\d+)", output))


async def _run(
    command: list[str], given: bytes, limit_s: float, env: dict[str, str] | None = None
) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE, cwd=ROOT, env=env, start_new_session=True,
    )  # fmt: skip
    try:
        output, errors = await asyncio.wait_for(process.communicate(given), limit_s)
    except TimeoutError as error:
        raise BenchError(f"{command[0]} did not end within {limit_s:.0f} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise BenchError(f"{command[0]} ended with {process.returncode}:\n{errors.decode()}")
    return output.decode()


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    return float(found.group(1)) if found else 0.0


def _without_password(dsn: str) -> tuple[str, str]:
    """Return the address fit for a command line, which everybody can read, and the password."""
    parts = urlsplit(dsn)
    host = parts.hostname or ""
    place = f"{parts.username}@{host}" + (f":{parts.port}" if parts.port else "")
    return urlunsplit(parts._replace(netloc=place)), parts.password or ""
