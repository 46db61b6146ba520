"""Whether what an answer says of the day belongs together: epoch, mode, date and base."""

from collections.abc import Iterator, Mapping
from typing import Any

from bench.night_spec import NightSpec


def minor(text: str) -> int:
    """Return the minor units of an amount with two decimals, as CZK is printed."""
    return int(text.replace(".", ""))


def kind_of(document: Mapping[str, Any]) -> str:
    """Return which of the load's requests a document answers."""
    if "posting_id" in document:
        return "capture" if "hold" in document else "debit"
    return "hold" if "hold_id" in document else "read"


def mixed_state(spec: NightSpec, document: Mapping[str, Any]) -> str | None:
    """Return what does not belong together in an answer; None when all does."""
    epoch = document["epoch"]
    for name, shown, expected in _told(spec, document, epoch):
        if shown != expected:
            return f"epoch {epoch} has {name} {expected} and shows {shown}"
    return None


def _told(
    spec: NightSpec, document: Mapping[str, Any], epoch: int
) -> Iterator[tuple[str, object, object]]:
    nights = spec.nights(epoch)
    if kind_of(document) == "read":
        yield "mode", document["mode"], "night" if spec.is_night(epoch) else "day"
        yield "business date", document["business_date"], spec.date(epoch)
        booked, available = minor(document["booked"]), minor(document["available"])
        yield "nights in booked", spec.nights_in(booked), nights
        parts = booked + minor(document["credit_limit"]) + minor(document["pending"])
        yield "the sum of its parts", available, parts - minor(document["held"])
    elif kind_of(document) == "hold":
        available = minor(document["available_after"])
    else:
        available = minor(document["debit"]["available_after"])
        yield "value date", document["value_date"], spec.date(epoch)
    yield "nights in available", spec.nights_in(available), nights
