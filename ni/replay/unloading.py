"""Takes a date's packets to the core when all its rows are answered, while later rows flow."""

from __future__ import annotations

import asyncio
from typing import Final

from ni.replay.report import ReplayReport
from ni.replay.sender import Sender
from ni.replay.statement import Row, Survey

AT_ONCE: Final = 2
"""Packets unloaded at one time: what an API process does by default."""

NIGHT: Final = "night"
"""In the place of a run's number: the unload that follows the night after a packet's date."""

_DONE: Final = 200


class Unloading:
    """The packets of a replay. Rows never wait for them; they wait for their date's last answer."""

    def __init__(self, survey: Survey, sender: Sender, report: ReplayReport) -> None:
        self._survey = survey
        self._sender = sender
        self._report = report
        self._unanswered = {day: found.rows for day, found in survey.days.items()}
        self._due: asyncio.Queue[str | None] = asyncio.Queue()
        self._stopped = False

    def answered(self, row: Row) -> None:
        """One more row has its answer; the last of a date makes the date's packets due."""
        self._unanswered[row.day] -= 1
        if not self._unanswered[row.day]:
            for packet in sorted(self._survey.days[row.day].packets):
                self._due.put_nowait(packet)

    def no_more(self) -> None:
        """Nothing will become due any more: `work` ends when what is due is unloaded."""
        for _ in range(AT_ONCE):
            self._due.put_nowait(None)

    def stop(self) -> None:
        """No further packet is unloaded. What was due is left to the next run."""
        self._stopped = True
        self.no_more()

    async def work(self) -> None:
        """Unloads what becomes due; AT_ONCE of these run beside each other.

        Raises NiError when the server does not answer, refuses the key or is not NI.
        """
        while (packet := await self._due.get()) is not None and not self._stopped:
            await unload(self._sender, self._survey, self._report, packet)


async def unload(
    sender: Sender, survey: Survey, report: ReplayReport, packet: str, after_run: int | str = 0
) -> None:
    """Unloads what a packet has pending now, at most once for each run that it had before.

    Raises NiError as the sender does.
    """
    key = survey.unload_key(packet, after_run)
    answer = await sender.post(f"/v1/packets/{packet}/unload", {}, key)
    report.packets += 1
    if answer.status != _DONE:
        code = str(answer.document.get("code", f"http_{answer.status}"))
        report.refuse_packet(packet, code, str(answer.document.get("detail", "")))
    elif not answer.replayed:
        for problem in answer.document.get("problems", ()):
            report.problem(packet, problem)
