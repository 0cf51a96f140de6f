"""A few steps of a fit tell what all of them take, and end before one that memory does not hold."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from acclimate.config import Config
from acclimate.errors import DoesNotFitError
from acclimate.forecasts import forecast, params_digest
from acclimate.params_file import read_yaml
from acclimate.runtime import free_memory_mb, peak_rss_mb
from acclimate.training.health import HealthConfig
from acclimate.training.streams import Work
from acclimate.training.trial import Trial
from tests.unit.training.toy_run import Points, summed_error, train

ROOT = Path(__file__).parents[3]
_WIDTH = 2_000_000
"""Floats of activation that a row keeps for backward: 8 MB for each of the layers below."""


@dataclass(frozen=True)
class Texts:
    """Steps of 10 to 49 tokens, the long ones last."""

    steps: int = 40

    def window(self, step: int) -> list[Work]:
        return [Work("toy", step, Points(torch.ones(2, 4), torch.ones(2, 1), num_tokens=10 + step))]

    def rows(self, step: int) -> dict[str, list[int]]:
        return {}


@pytest.mark.parametrize(("patience", "every", "scored"), [(0, 0, 0), (0, 10, 3), (0, 7, 5), (99, 10, 4)])
def test_a_few_steps_and_one_score_tell_the_time_of_all(
    patience: int, every: int, scored: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, losses, scores = [0.0], [0], [0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def score(_: nn.Module) -> dict[str, float]:
        scores[0] += 1
        now[0] += 0.05
        return {"heldout_loss": 1.0}

    def loss(model: nn.Module, batch: Points) -> torch.Tensor:
        losses[0] += 1
        now[0] += batch.num_tokens * 0.001 + 5.0 * (losses[0] in (1, 6))  # the first step compiles, one is disturbed
        return summed_error(model, batch)

    settings = {"batches": Texts(), "evaluate": score, "evaluate_every": every, "health": HealthConfig(patience=patience)}
    trial = Trial(8)
    assert train(tmp_path / "trial", loss=loss, trial=trial, **settings).result.steps == 1 + 2 + 8
    found = trial.whole("cpu")
    assert found["steps"] == 40
    assert found["parts_s"]["steps"] == pytest.approx(sum(range(10, 50)) / 1000)
    assert found["parts_s"]["evaluations"] == pytest.approx(0.05 * scored)
    assert found["wall_s"] == pytest.approx(sum(found["parts_s"].values()))
    scores[0] = 0
    train(tmp_path / "run", **settings)
    assert scores[0] == scored


class Wide(nn.Module):
    """Few weights, much memory a row."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden = inputs[:, :1] * torch.ones(1, _WIDTH)
        for factor in self.scale:
            hidden = torch.tanh(hidden * factor)
        return hidden.mean(1, keepdim=True)


@dataclass(frozen=True)
class Wides:
    num_rows: int
    steps: int = 2
    divisible: bool = True

    def window(self, step: int) -> list[Work]:
        return [Work("toy", step, Points(torch.ones(self.num_rows, 4), torch.ones(self.num_rows, 1)), self.divisible)]

    def rows(self, step: int) -> dict[str, list[int]]:
        return {}


def test_a_trial_ends_before_it_asks_for_more_than_there_is(tmp_path: Path) -> None:
    torch.ones(1 << 28)  # 1 GB: an earlier peak, which hides what few rows take
    limit_mb = peak_rss_mb() + 900  # a row takes some 70 MB, 32 of them 2.2 GB
    trial = Trial(1, limit_mb)
    with pytest.raises(DoesNotFitError):
        train(tmp_path, model=Wide(), batches=Wides(32), trial=trial)
    found = trial.whole("cpu")
    assert not found["fits"] and found["rows"] == 32 and 1 <= found["fitting_rows"] < 32
    assert found["needed_mb"] > limit_mb > found["peak_rss_mb"] - 200
    trial = Trial(1)
    train(tmp_path, model=Wide(), batches=Wides(2), trial=trial)
    assert trial.whole("cpu")["fits"] and trial.whole("cpu")["fitting_rows"] == 2


@pytest.mark.parametrize(
    ("directory", "names"),
    [
        ("", ("memory.max", "memory.current", "inactive_file")),
        ("memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")),
    ],
)
def test_a_containers_limit_counts_less_what_others_use_but_for_cached_files(
    tmp_path: Path, directory: str, names: tuple[str, str, str]
) -> None:
    limit, usage, cache = names
    (tmp_path / directory).mkdir(exist_ok=True)
    for name, text in ((limit, f"{100 << 20}"), (usage, f"{90 << 20}"), ("memory.stat", f"anon 1\n{cache} {30 << 20}\n")):
        (tmp_path / directory / name).write_text(text)
    free_of_machine_mb = free_memory_mb(tmp_path / "none")
    assert 40 < free_memory_mb(tmp_path) < free_of_machine_mb  # 40, and what this process has already
    (tmp_path / directory / limit).write_text("max")
    assert free_memory_mb(tmp_path) == pytest.approx(free_of_machine_mb, rel=0.2)


def test_a_stage_takes_the_prediction_for_its_own_params_and_machine_alone(tmp_path: Path) -> None:
    def digest(**changed: dict[str, object]) -> str:
        raw = read_yaml(ROOT / "params.yaml")
        config = Config(**{**raw, **{name: {**raw[name], **values} for name, values in changed.items()}})
        return params_digest(config, config.recipe("full").model_dump(mode="json"))

    plan, record = tmp_path / "plan.json", {"device": "cpu", "threads": 2, "processes": 1}
    assert forecast("pretrain", digest(), record, plan=plan) == {}
    plan.write_text(json.dumps({"stages": {"pretrain": {**record, "params": digest(), "wall_s": 132.0, "peak_rss_mb": 900.0}}}))
    wanted = {"forecast_wall_s": 132.0, "forecast_peak_rss_mb": 900.0}
    assert forecast("pretrain", digest(), record, plan=plan) == wanted
    assert forecast("pretrain", digest(train={"price_per_hour": 2.0}, runs={"seeds": [5]}), record, plan=plan) == wanted
    for other in ({"threads": 1}, {"device": "cuda"}, {"processes": 2}):
        assert forecast("pretrain", digest(), {**record, **other}, plan=plan) == {}
    for changed in ({"finetune": {"epochs": 2}}, {"train": {"micro_batch_size": 4}}, {"model": {"subfolder": "x"}}):
        assert forecast("pretrain", digest(**changed), record, plan=plan) == {}
    assert forecast("export@section", digest(), record, plan=plan) == {}
    plan.write_text("{half")
    assert forecast("pretrain", digest(), record, plan=plan) == {}
