"""Serve the REST API: `python -m api`. Ends with status 0 on SIGTERM, after what was submitted."""

from __future__ import annotations

import logging
import sys

import structlog
import uvicorn

from api.app import create_app
from ni.errors import NiError
from ni.settings import load_settings


def main() -> int:
    """Run until told to stop; what was submitted is decided and answered first."""
    settings = load_settings()
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    try:
        uvicorn.run(
            create_app(settings),
            host=settings.api_host,
            port=settings.api_port,
            loop="uvloop",
            http="httptools",
            access_log=False,
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
