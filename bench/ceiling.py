"""The ceiling: a FastAPI application with one posting endpoint that only answers.

It is declared the ordinary way, with models of request and response and the two headers read. It
has no authentication, no database and no decision, so its rate is what the framework alone leaves.
"""

import argparse
import datetime as dt
import uuid
from typing import Annotated, Literal

import uvicorn
from fastapi import FastAPI, Header
from pydantic import BaseModel, ConfigDict, Field

AccountName = Annotated[str, Field(pattern=r"^[0-9A-Z-]{1,34}$")]
PostingType = Literal["TRANSFER", "DEPOSIT", "WITHDRAWAL", "FEE", "INTEREST", "FX", "OTHER"]
Check = Literal["available", "none"]


class Override(BaseModel):
    """Passes a block, on the authority of a document."""

    legal_reference: str


class PostingRequest(BaseModel):
    """The body of `POST /v1/postings`."""

    model_config = ConfigDict(extra="forbid")

    debit_account: AccountName
    credit_account: AccountName
    amount: Annotated[str, Field(pattern=r"^[0-9]{1,15}(\.[0-9]{1,3})?$")]
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    packet: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    straight_through: bool = False
    type: PostingType = "TRANSFER"
    check: Check = "available"
    value_date: dt.date | None = None
    valid_from: dt.datetime | None = None
    link_id: uuid.UUID | None = None
    reference: Annotated[str, Field(max_length=140)] | None = None
    narrative: Annotated[str, Field(max_length=500)] | None = None
    actor: Annotated[str, Field(max_length=64)] | None = None
    override: Override | None = None


class Side(BaseModel):
    """What one side of the posting looks like afterwards."""

    available_after: str | None
    sequence: int | None


class PostingResponse(BaseModel):
    """The answer of `POST /v1/postings`."""

    posting_id: uuid.UUID
    type: PostingType
    debit_account: str
    credit_account: str
    amount: str
    currency: str
    packet: str | None
    straight_through: bool
    status: Literal["pending"]
    check: Check
    value_date: dt.date
    valid_from: dt.datetime
    link_id: uuid.UUID | None
    reference: str | None
    narrative: str | None
    actor: str | None
    debit: Side
    credit: Side
    epoch: int
    created_at: dt.datetime


app = FastAPI()
INSTANT = dt.datetime(1993, 1, 4, 10, 0, 0, 123456, tzinfo=dt.UTC)


@app.post("/v1/postings", status_code=201)
async def create_posting(
    request: PostingRequest,
    idempotency_key: Annotated[str, Header()],  # noqa: ARG001  read, and needed no further
    authorization: Annotated[str, Header()],  # noqa: ARG001  read, and needed no further
) -> PostingResponse:
    """Answer as if the posting had been decided."""
    return PostingResponse(
        posting_id=uuid.uuid4(),
        type=request.type,
        debit_account=request.debit_account,
        credit_account=request.credit_account,
        amount=request.amount,
        currency=request.currency,
        packet=request.packet,
        straight_through=request.straight_through,
        status="pending",
        check=request.check,
        value_date=request.value_date or INSTANT.date(),
        valid_from=request.valid_from or INSTANT,
        link_id=request.link_id,
        reference=request.reference,
        narrative=request.narrative,
        actor=request.actor,
        debit=Side(available_after="50.00", sequence=1),
        credit=Side(available_after=None, sequence=None),
        epoch=1,
        created_at=INSTANT,
    )


def main() -> None:
    """Serve with the event loop and HTTP parser of NI's API, one process, no access log."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    port: int = parser.parse_args().port
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        proxy_headers=False,
        log_level="warning",
        server_header=False,
    )


if __name__ == "__main__":
    main()
