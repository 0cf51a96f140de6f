"""Which models overfit: the loss on dev rows rises while the loss on training rows falls."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist, fmean
from typing import TYPE_CHECKING

from acclimate import artifacts

if TYPE_CHECKING:
    from acclimate.training.options import RunsConfig

DEV_LOSS = "dev/loss"
"""Column of history.csv: mean loss per target on the first dev rows, after each epoch but the last."""


@dataclass(frozen=True)
class Losses:
    """Losses of one run without dropout."""

    by_epoch: list[float]
    """On the same dev rows after each epoch; the last is that of the trained model."""
    standard_error: float
    """Of the last, over rows."""
    train: float
    """Of the trained model, on training rows."""

    @property
    def lowest_epoch(self) -> int:
        """After which epoch the loss on dev rows was lowest, counted from 1."""
        return 1 + min(range(len(self.by_epoch)), key=self.by_epoch.__getitem__)

    @property
    def rise(self) -> float:
        """Loss at the end minus the lowest."""
        return self.by_epoch[-1] - min(self.by_epoch)


def overfits(runs: list[Losses], *, confidence: float = 0.95) -> bool:
    """Whether the loss on dev rows rose by more than chance explains while training rows were fitted better and better.

    The lowest of E epochs lies below the others by chance too, so the rise must exceed what one of E - 1 comparisons shows at
    this confidence (Bonferroni). Runs share their dev rows, so their errors are averaged, not reduced.
    """
    epochs = max(len(run.by_epoch) for run in runs)
    if epochs < 2:
        return False
    limit = NormalDist().inv_cdf(1 - (1 - confidence) / (epochs - 1)) * fmean(run.standard_error for run in runs)
    return fmean(run.rise for run in runs) > limit and fmean(run.train for run in runs) < fmean(min(run.by_epoch) for run in runs)


def read_losses(run: Path) -> Losses | None:
    """The losses that fine-tuning kept; None where an older version kept none."""
    fit = artifacts.read_json(run / "metrics.json").get("fit", {}) if (run / "metrics.json").is_file() else {}
    if "dev_loss_error" not in fit or not (run / "history.csv").is_file():
        return None
    with (run / "history.csv").open(encoding="utf-8", newline="") as file:
        before = [float(row[DEV_LOSS]) for row in csv.DictReader(file) if row.get(DEV_LOSS)]
    return Losses([*before, fit["dev_loss_at_end"]], fit["dev_loss_error"], fit["train_loss"])


def overfitting_sentences(finetune: Path, runs: RunsConfig) -> list[str]:
    """One sentence for each task and variant that overfits."""
    found = []
    for task in runs.all_tasks:
        for variant in runs.variants:
            losses = [read_losses(finetune / task / f"{variant.name}-{seed}") for seed in runs.seeds_of(task)]
            known = [each for each in losses if each is not None]
            if known and overfits(known):
                found.append(_sentence(task, variant.name, known))
    return found


def _sentence(task: str, variant: str, runs: list[Losses]) -> str:
    end, lowest, train = (fmean(values) for values in zip(*((run.by_epoch[-1], min(run.by_epoch), run.train) for run in runs), strict=True))
    epoch = round(fmean(run.lowest_epoch for run in runs))
    return (
        f"{variant} overfits {task}: its loss on dev rows is lowest after epoch {epoch} of {len(runs[0].by_epoch)} ({lowest:.3f}) and "
        f"rises to {end:.3f}, while that on training rows falls to {train:.3f}; fewer epochs, more dropout or health.patience help"
    )
