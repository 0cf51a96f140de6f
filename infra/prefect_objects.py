"""What Prefect's server must hold before a worker starts: work pools, and the automation that ends dead runs.

`python -m infra.prefect_objects`, against PREFECT_API_URL. Running it twice changes nothing.
"""

from __future__ import annotations

import sys
from datetime import timedelta

from prefect.automations import AutomationCore
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectNotFound
from prefect.workers.process import ProcessWorker

POOLS = ("cpu", "gpu")
ZOMBIES = "a run that gives no sign of life has crashed"
ZOMBIE_AFTER = timedelta(seconds=540)  # three heartbeats of 180 s


def ensure_pool(client: SyncPrefectClient, name: str) -> None:
    """A pool of processes, one run at a time: a flow run has the whole checkout."""
    try:
        client.read_work_pool(name)
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        client.create_work_pool(WorkPoolCreate(name=name, type="process", base_job_template=template, concurrency_limit=1))


def zombie_automation() -> AutomationCore:
    """Without it, the run of a worker that died is `Running` for ever and keeps its slot (PrefectHQ/prefect#16746)."""
    signs_of_life = {
        "prefect.flow-run.heartbeat",
        *(f"prefect.flow-run.{name}" for name in ("Completed", "Failed", "Cancelled", "Crashed")),
    }
    return AutomationCore(
        name=ZOMBIES,
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect=signs_of_life,
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=ZOMBIE_AFTER,
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message=f"No sign of life for {ZOMBIE_AFTER.seconds} s")],
    )


def main() -> int:
    """Make what is missing."""
    with get_client(sync_client=True) as client:
        for name in POOLS:
            ensure_pool(client, name)
        if not client.read_automations_by_name(ZOMBIES):
            client.create_automation(zombie_automation())
    return 0


if __name__ == "__main__":
    sys.exit(main())
