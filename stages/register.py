"""Register a task's exported model in MLflow: a new version as `challenger`, and as `champion` when the gates of params.yaml hold."""

from __future__ import annotations

import logging
import os
from dataclasses import asdict
from pathlib import Path

from pydantic import Field

from acclimate.adapters.gates import read_candidate
from acclimate.adapters.options import RegisterConfig, TrackingConfig
from acclimate.adapters.tracking import TRIAL_VARIABLE, configured_uri
from acclimate.artifacts import write_json
from acclimate.errors import EnvironmentUnfitError
from acclimate.settings import Options
from stages.command import Out, StageContext, main

logger = logging.getLogger("stages.register")


class Params(Options):
    """The sections of params.yaml that this stage reads."""

    tracking: TrackingConfig
    register_: RegisterConfig = Field(alias="register")


def run(params: Params, *, task: str, export: Path, evaluate: Path, table: Path, out: Out, context: StageContext) -> None:
    """Register one task's model.

    Args:
        task: its name under `tasks`.
        export: the task's export directory.
        evaluate: the judgement of every task.
        table: the task's ingested table; a champion that was measured on other test rows is measured on its own.
        out: gets registration.json.

    Raises:
        DataError: a metric that a gate needs is not there.
        EnvironmentUnfitError: MLflow, which holds the registry, does not answer.
        ModelError: the registered model does not predict what the exported one did.
    """
    from acclimate.adapters.registry import register

    config = params.register_
    candidate = read_candidate(task, export, evaluate)
    run_id = context.run_id()
    if run_id is None:
        raise EnvironmentUnfitError(
            "MLflow holds the registry, and this stage got no run there; see the warning above. "
            "Start MLflow (`make stack`), or unset MLFLOW_TRACKING_URI"
        )
    names = {"dvc.experiment": os.environ.get("DVC_EXP_NAME"), "flow.run": os.environ.get(TRIAL_VARIABLE)}
    registration = register(
        candidate,
        config.gates,
        export=export,
        evaluate=evaluate,
        model_name=config.model_name,
        uri=configured_uri(params.tracking),
        run_id=run_id,
        table=table,
        trial={tag: name for tag, name in names.items() if name},
    )
    write_json(out / "registration.json", asdict(registration))
    for gate in registration.gates:
        value = "-" if gate.value is None else f"{gate.value:.4f}"
        logger.info("gate %-22s %s, limit %g: %s %s", gate.gate, value, gate.limit, "holds" if gate.holds else "DOES NOT HOLD", gate.note)
    given = " and ".join(registration.aliases) or "registered without an alias"
    logger.info("%s version %d is %s", registration.name, registration.version, given)
    if registration.note:
        logger.info("%s version %d is not champion: %s", registration.name, registration.version, registration.note)
    context.artifacts.append(out / "registration.json")


if __name__ == "__main__":
    main(run, Params)
