"""Replaying a bank's recorded statement through the REST API, comparing every balance.

`statement` reads the file, `preparation` opens its accounts in the core, `sender` posts its
rows through `rest` and `driver` keeps many accounts in flight and each account in the file's order.
`unloading` takes each date's packets to the core, `checks` compares NI and the core at the end.
`days` closes every date instead, through `switch`; `calendar` finds where an earlier run ended.
"""

from ni.replay.calendar import Calendar, find_place
from ni.replay.checks import check, pending
from ni.replay.days import ReplayByDay
from ni.replay.driver import Replay
from ni.replay.preparation import Plan, prepare
from ni.replay.report import DaysReport, Outcome, ReplayReport
from ni.replay.rest import RestDoor
from ni.replay.sender import Sender
from ni.replay.statement import Survey, survey
from ni.replay.switch import Switch

__all__ = [
    "Calendar",
    "DaysReport",
    "Outcome",
    "Plan",
    "Replay",
    "ReplayByDay",
    "ReplayReport",
    "RestDoor",
    "Sender",
    "Survey",
    "Switch",
    "check",
    "find_place",
    "pending",
    "prepare",
    "survey",
]
