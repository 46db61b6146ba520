"""PostgreSQL and Valkey as part of NI.

Their programs come in Python packages, their data lie in $NI_HOME, they listen on loopback only,
and their passwords stand in secrets.json alone. A server of the same NI_HOME that already runs is
found and used, also one that an NI left behind when it was killed. Both outlive the process that
started them until `stop` is called.

  $NI_HOME/secrets.json          passwords and keys, for the owner's eyes only
  $NI_HOME/embedded.json         the ports of last time, so that they stay the same
  $NI_HOME/postgres/data         the database (postgres may be a link, see `ni.service_user`)
  $NI_HOME/logs/postgres.log, valkey.log
"""

from __future__ import annotations

from ni.postgres_server import EmbeddedPostgres
from ni.valkey_server import EmbeddedValkey

__all__ = ["EmbeddedPostgres", "EmbeddedValkey"]
