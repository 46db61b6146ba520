"""Runs the two programs that make load: our generator and PostgreSQL's pgbench."""

import asyncio
import os
import re
import sys
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from bench.figures import Sample
from bench.load_spec import LoadResult, LoadSpec
from bench.machine import ROOT
from bench.processes import BenchError

SPARE_S = 60
# The plans that NI's own pools ask for; without them PL/pgSQL keeps plans made on empty tables.
PGBENCH_OPTIONS = "-c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off -c jit=off"


async def run_load(spec: LoadSpec) -> LoadResult:
    """Run one load in a process of its own.

    Raises BenchError if any answer was not the expected one: a rate of refusals is no rate.
    """
    limit = spec.warm_seconds + spec.seconds + SPARE_S
    output = await _run([sys.executable, "-m", "bench.load"], spec.to_json().encode(), limit)
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
    address, password = _without_password(dsn)
    threads = min(clients, os.cpu_count() or 1)
    command = [
        str(program), "--no-vacuum", "--protocol=prepared", f"--client={clients}",
        f"--jobs={threads}", f"--time={seconds}", f"--define=accounts={accounts}",
        f"--file={ROOT / 'bench' / 'sql' / 'pgbench_debit.pgbench'}", address,
    ]  # fmt: skip
    env = {**os.environ, "PGPASSWORD": password, "PGOPTIONS": PGBENCH_OPTIONS}
    output = await _run(command, b"", seconds + SPARE_S, env)
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
