"""Characters tell the two classes apart, so the baseline does."""

import json
from pathlib import Path

from acclimate.evaluation.baselines import fit_baseline


def check(out: Path, said: str) -> None:
    table = out / "tables/triage"
    labels = json.loads((table / "schema.json").read_text())["labels"]
    assert fit_baseline(table, "classification", labels, metric="accuracy").scores["test"]["accuracy"] == 1.0
