"""Replaying a bank's recorded statement through the REST API, comparing every balance.

`statement` reads the file, `preparation` opens its accounts in the core, `sender` posts its
rows through `rest` and `driver` keeps many accounts in flight and each account in the file's order.
"""

from ni.replay.driver import Replay
from ni.replay.preparation import Plan, prepare
from ni.replay.report import ReplayReport
from ni.replay.rest import RestDoor
from ni.replay.sender import Sender
from ni.replay.statement import Survey, survey

__all__ = ["Plan", "Replay", "ReplayReport", "RestDoor", "Sender", "Survey", "prepare", "survey"]
