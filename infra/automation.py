"""Fail runs whose worker has died: without it they say Running for ever and keep their slot (PrefectHQ/prefect#16746)."""

from __future__ import annotations

import sys
from datetime import timedelta

from prefect.automations import Automation
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture

NAME = "fail runs without a heartbeat"


def ensure(within_s: int) -> None:
    """Create the automation once: a run that sent a heartbeat and then nothing for `within_s` seconds is marked crashed."""
    try:
        Automation.read(name=NAME)
    except ValueError:
        Automation(
            name=NAME,
            trigger=EventTrigger(
                after={"prefect.flow-run.heartbeat"},
                expect={"prefect.flow-run.heartbeat", "prefect.flow-run.Completed", "prefect.flow-run.Failed", "prefect.flow-run.Cancelled", "prefect.flow-run.Crashed"},
                match={"prefect.resource.id": ["prefect.flow-run.*"]},
                for_each={"prefect.resource.id"},
                posture=Posture.Proactive,
                threshold=1,
                within=timedelta(seconds=within_s),
            ),
            actions=[ChangeFlowRunState(state=StateType.CRASHED, message="no heartbeat: the worker is gone")],
        ).create()


if __name__ == "__main__":
    ensure(int(sys.argv[1]))
