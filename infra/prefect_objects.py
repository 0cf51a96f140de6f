"""What Prefect's server must hold before a worker starts: work pools, and the automation that ends dead runs.

`python -m infra.prefect_objects`, against PREFECT_API_URL. It also brings up to date what an older version made.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Any

from prefect.automations import AutomationCore
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectNotFound

POOLS = ("cpu", "gpu")
ZOMBIES = "a run that gives no sign of life has crashed"
ZOMBIE_AFTER = timedelta(seconds=540)  # three heartbeats of 180 s
_ALIVE = {f"prefect.flow-run.{name}" for name in ("Pending", "Running", "Cancelling", "heartbeat")}
"""After each of these a run holds its pool's slot, and must be heard of again."""

JOB_TEMPLATE: dict[str, Any] = {
    "job_configuration": {"stream_output": "{{ stream_output }}"},
    "variables": {
        "type": "object",
        "properties": {"stream_output": {"type": "boolean", "default": True, "title": "Stream Output"}},
        "additionalProperties": False,
    },
}
"""What a run may say about its process. Prefect's own template also takes `command`, `env` and `working_dir`."""


def ensure_pool(client: SyncPrefectClient, name: str) -> None:
    """A pool of processes, one run at a time: a flow run has the whole checkout."""
    try:
        client.read_work_pool(name)
    except ObjectNotFound:
        client.create_work_pool(WorkPoolCreate(name=name, type="process", base_job_template=JOB_TEMPLATE, concurrency_limit=1))
    else:
        client.update_work_pool(name, WorkPoolUpdate(base_job_template=JOB_TEMPLATE, concurrency_limit=1))


def zombie_automation(within: timedelta = ZOMBIE_AFTER) -> AutomationCore:
    """Without it, the run of a worker that died holds its slot for ever (PrefectHQ/prefect#16746), also before its first heartbeat."""
    return AutomationCore(
        name=ZOMBIES,
        trigger=EventTrigger(
            after=_ALIVE,
            expect={"prefect.flow-run.*"},
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=within,
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message=f"No sign of life for {within.seconds} s")],
    )


def ensure_automation(client: SyncPrefectClient, wanted: AutomationCore) -> None:
    """The automation as it is here."""
    for found in client.read_automations_by_name(wanted.name):
        if found.trigger.model_dump(exclude={"id"}) == wanted.trigger.model_dump(exclude={"id"}) and found.actions == wanted.actions:
            return
        client.delete_automation(found.id)
    client.create_automation(wanted)


def main() -> int:
    """Make what is missing, and mend the rest."""
    with get_client(sync_client=True) as client:
        for name in POOLS:
            ensure_pool(client, name)
        ensure_automation(client, zombie_automation())
    return 0


if __name__ == "__main__":
    sys.exit(main())
