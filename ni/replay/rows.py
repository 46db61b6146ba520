"""Posts rows of a statement and compares the balance after each with the one the bank recorded."""

from __future__ import annotations

from typing import Final

from ni.errors import NiError
from ni.money import parse_balance
from ni.replay.preparation import Plan
from ni.replay.report import ReplayReport
from ni.replay.sender import Answer, Sender
from ni.replay.statement import Row

_PATH: Final = "/v1/postings"
_CREATED: Final = 201


class Rows:
    """Sends one row at a time into `report`; many of these calls may run beside each other."""

    def __init__(self, plan: Plan, sender: Sender, report: ReplayReport) -> None:
        self._plan = plan
        self._sender = sender
        self._report = report

    async def send(self, row: Row) -> None:
        """Sends a row, compares its answer and counts it.

        Raises NiError as the sender does, and when the answer is not NI's.
        """
        survey = self._plan.survey
        answer = await self._sender.post(_PATH, row.body(survey.currency), survey.key(row))
        self._compare(row, answer)
        report = self._report
        report.rows += 1
        report.replayed += answer.replayed
        report.retries += answer.retries
        report.latencies_us.append(answer.latency_us)

    def _compare(self, row: Row, answer: Answer) -> None:
        document = answer.document
        if answer.status != _CREATED:
            code = str(document.get("code", f"http_{answer.status}"))
            self._report.refuse(row, code, str(document.get("detail", "")))
            return
        currency = self._plan.survey.currency
        try:
            available = parse_balance(document[row.direction]["available_after"], currency)
        except (KeyError, TypeError, ValueError) as error:
            raise NiError(f"line {row.line}: the answer has no available_after") from error
        # a stored answer was made when the account had the limit that it was opened with
        opened_with = self._plan.survey.accounts[row.account].credit_limit
        limit = opened_with if answer.replayed else self._plan.limits[row.account]
        balance = available - limit
        if balance != row.balance_after:
            self._report.mismatch(row, balance, currency)
