"""The sign of life that every worker gives beside its work; ni/heartbeat.py reads it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

import structlog

from ni.heartbeat import beat_path

if TYPE_CHECKING:
    from pathlib import Path

BEAT_S: Final = 2

log = structlog.get_logger()


async def beat(home: Path, worker: str) -> None:
    """Touch the worker's file until cancelled. Without a folder `home` nobody asks, and it ends."""
    path = beat_path(home, worker)
    try:
        while True:
            path.touch()
            await asyncio.sleep(BEAT_S)
    except FileNotFoundError:
        return
    except OSError as error:
        log.warning("no_sign_of_life", file=str(path), error=str(error))
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
