"""Serve the REST API: `python -m api`. Ends with status 0 on SIGTERM, after what was submitted."""

from __future__ import annotations

import asyncio
import signal
import sys

import uvicorn

from api.app import create_app
from api.joined_writes import JoinedHttp
from ni.errors import NiError
from ni.logs import configure_logs
from ni.settings import load_settings
from ni.start_checks import check_database


def main() -> int:
    """Run until told to stop; what was submitted is decided and answered first."""
    try:
        settings = load_settings()
        configure_logs(settings.log_level)
        asyncio.run(check_database(settings.database_url))
        for number in (signal.SIGTERM, signal.SIGINT):
            # The server raises the signal again after it has stopped: that is no failure.
            signal.signal(number, lambda _number, _frame: None)
        uvicorn.run(
            create_app(settings),
            host=settings.api_host,
            port=settings.api_port,
            loop="uvloop",
            http=JoinedHttp,
            access_log=False,
            proxy_headers=False,
            log_level="warning",
            timeout_graceful_shutdown=5,
            server_header=False,
        )
    except NiError as error:
        print(f"ni: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
