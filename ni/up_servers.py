"""The servers under `ni up`: the embedded ones, or those whose addresses are set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ni.clock import monotonic
from ni.embedded import EmbeddedPostgres, EmbeddedValkey
from ni.errors import NiError
from ni.migrate import ROLES
from ni.processes import LOOPBACK
from ni.server_home import Tell
from ni.settings import Settings

TRY_AGAIN_S: Final = 5.0
"""Pause after a server could not be started again."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the servers are, passwords included."""

    owner: str
    engine: str
    core: str
    redis: str
    sms: str


class UpServers:
    """PostgreSQL and Valkey of one `ni up`.

    Raises NiError when the addresses of a database are set in part.
    """

    def __init__(self, home: Path, settings: Settings, tell: Tell) -> None:
        self._settings = settings
        self._tell = tell
        self._postgres = None if _is_set(settings) else EmbeddedPostgres(home, settings, tell)
        self._valkey = None if settings.redis_url else EmbeddedValkey(home, settings, tell)
        self._try_again_at = 0.0

    @property
    def has_own_database(self) -> bool:
        """Whether the database is NI's embedded one."""
        return self._postgres is not None

    def start(self, check: Callable[[], None]) -> Addresses:
        """Starts or finds what is embedded; `check` is called after each server."""
        for name, server in self._embedded():
            began_at = monotonic()
            server.start()
            how = "started" if server.started_here else "found running"
            self._tell(f"{name} {how} on {LOOPBACK}:{server.port} ({monotonic() - began_at:.1f} s)")
            check()
        return self._addresses()

    def _addresses(self) -> Addresses:
        settings, postgres = self._settings, self._postgres
        redis = self._valkey.url if self._valkey else settings.redis_url
        if postgres is None:
            return Addresses(
                settings.owner_database_url,
                settings.database_url,
                settings.core_database_url,
                redis,
                settings.sms_database_url,
            )
        owner, engine, core, sms = (postgres.dsn(role) for role in ROLES)
        return Addresses(owner, engine, core, redis, sms)

    def watch(self) -> None:
        """Starts a server that has died again, on its old port."""
        for name, server in self._embedded():
            if server.is_alive() or monotonic() < self._try_again_at:
                continue
            self._tell(f"{name} has died and is started again")
            try:
                server.start(port=server.port)
            except NiError as error:
                self._tell(f"{error}. Next try in {TRY_AGAIN_S:g} s")
                self._try_again_at = monotonic() + TRY_AGAIN_S
            else:
                self._tell(f"{name} serves again on {LOOPBACK}:{server.port}")

    def stop(self) -> None:
        """Stops what is embedded, Valkey first, also what an earlier `ni up` had left running."""
        for name, server in reversed(self._embedded()):
            self._tell(f"Stopping {name}")
            server.stop(found_too=True)

    def _embedded(self) -> list[tuple[str, EmbeddedPostgres | EmbeddedValkey]]:
        named = (("PostgreSQL", self._postgres), ("Valkey", self._valkey))
        return [(name, server) for name, server in named if server is not None]


def _is_set(settings: Settings) -> bool:
    """Whether addresses of a database are set. Raises NiError when only some of them are."""
    urls = {
        "NI_OWNER_DATABASE_URL": settings.owner_database_url,
        "NI_DATABASE_URL": settings.database_url,
        "NI_CORE_DATABASE_URL": settings.core_database_url,
    }
    missing = [name for name, url in urls.items() if not url]
    if missing and len(missing) < len(urls):
        present = [name for name in urls if name not in missing]
        raise NiError(
            f"for a database of your own set {', '.join(missing)} too; for the embedded one unset "
            f"{', '.join(present)}"
        )
    return not missing
