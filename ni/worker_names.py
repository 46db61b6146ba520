"""The workers that there are; each runs as `python -m workers NAME`."""

from typing import Final

WORKERS: Final = ("housekeeping", "packets", "night-copy", "end-of-day", "relay", "sms")
