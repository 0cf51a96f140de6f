"""Goal G14: what a logged metric costs the process that trains, beside mlflow.log_metric.

The peer writes to its default store, sqlite. Ours writes to the spool that a process of its own sends to MLflow; that process has the
same cores here, and its time is not counted.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from benchmarks.train_work import Run, Timing, Turns


def peer_log(run: Run, turns: Turns) -> Timing:
    """mlflow.log_metric, one value a call."""
    import mlflow

    with tempfile.TemporaryDirectory(prefix="bench-log-") as directory:
        mlflow.set_tracking_uri(f"sqlite:///{directory}/mlflow.db")
        mlflow.set_experiment("bench")
        with mlflow.start_run():
            for step in range(turns.steps):
                for value in range(run.rows):
                    mlflow.log_metric("loss", float(value), step=step * run.rows + value)
                turns.step(tokens=run.rows, sequences=1, loss=0.0)
    return turns.timing(quality={}, weights_at_start="")


def ours_log(run: Run, turns: Turns) -> Timing:
    """The tracker of a stage, one value a call."""
    from acclimate.adapters.options import TrackingConfig
    from acclimate.adapters.tracking import STATE_VARIABLE, Tracker

    with tempfile.TemporaryDirectory(prefix="bench-log-", ignore_cleanup_errors=True) as directory:
        os.environ[STATE_VARIABLE] = str(Path(directory) / "state")
        config = TrackingConfig(uri=f"sqlite:///{directory}/mlflow.db")
        with Tracker(config, stage="bench", params={}, inputs={}) as tracker:
            for step in range(turns.steps):
                for value in range(run.rows):
                    tracker.log(step * run.rows + value, {"loss": float(value)})
                turns.step(tokens=run.rows, sequences=1, loss=0.0)
    return turns.timing(quality={}, weights_at_start="")
