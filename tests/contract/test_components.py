"""Every component that is found: cites a source, validates its options, trains, round-trips, and merges."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from acclimate import kinds, plugins
from acclimate.data.encoding import load_tokenizer
from acclimate.models.backbone import load_encoder
from acclimate.models.task_model import TaskModel, TaskSpec, load_task_model, save_task_model
from acclimate.sinks import MemorySink
from acclimate.training.batches import PaddedBatch, make_padded_batch
from acclimate.training.checkpoints import CheckpointStore
from acclimate.training.loop import LoopConfig, fit
from acclimate.training.optimizers import adamw, parameter_groups
from acclimate.training.precision import Precision

EVERY = [(family, name) for family in plugins.FAMILIES for name in plugins.names(family)]
FP32 = Precision("fp32", "cpu")


def example(kind: str) -> Any:
    """Four rows of a kind: INPUTS, LABELS, LABEL_LIST and OPTIONS of tests/contract/kind_examples/<kind>.py."""
    return importlib.import_module(f"tests.contract.kind_examples.{kind}")


@pytest.mark.parametrize(("family", "name"), EVERY)
def test_a_component_cites_its_source(family: str, name: str) -> None:
    docstring = plugins.load(family, name).__doc__ or ""
    assert re.search(r"\(.* \d{4}.*https://", docstring, re.DOTALL)


@pytest.mark.parametrize(("family", "name"), [each for each in EVERY if each[0] != "tasks"])
def test_its_options_have_defaults_and_refuse_what_is_unknown(family: str, name: str) -> None:
    config_class = plugins.load(family, name).Config
    config_class()
    with pytest.raises(ValidationError):
        config_class(no_such_option=1)


def test_naming_components_imports_no_torch() -> None:
    code = (
        "import sys; from acclimate import kinds, plugins\n"
        "for family in plugins.FAMILIES:\n"
        "    for name in plugins.names(family): plugins.load(family, name)\n"
        "for kind in plugins.names('tasks'):\n"
        "    for part in (kinds.table, kinds.model, kinds.metrics, kinds.baseline): part(kind)\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


class OneBatch:
    """Three steps over the same four rows."""

    steps = 3

    def __init__(self, kind: str, encoder_dir: Path) -> None:
        task, rows = kinds.model(kind), example(kind)
        shift, scale = task.standardization(rows.LABELS)
        gold = task.gold(rows.LABELS, rows.LABEL_LIST)
        values = gold if (shift, scale) == (0.0, 1.0) else [(value - shift) / scale for value in gold]
        encoded = task.encode(rows.INPUTS, load_tokenizer(encoder_dir), max_length=16, options=rows.OPTIONS)
        numbers = np.arange(len(encoded.lengths))
        self.batch = make_padded_batch(encoded, numbers, partial(task.targets, values, encoded), pad_id=0)

    def window(self, step: int) -> list[PaddedBatch]:
        return [self.batch]


def build(encoder_dir: Path, kind: str, strategy: str) -> TaskModel:
    encoder = load_encoder(encoder_dir)
    component = plugins.load("strategies", strategy)
    component.apply(encoder, component.Config())
    labels = example(kind).LABEL_LIST
    spec = TaskSpec("t", kind, labels, False, "m", "mean", 16, "base", 0, 32, kinds.model(kind).num_outputs(labels))
    return TaskModel(encoder, spec)


@pytest.mark.parametrize("kind", plugins.names("tasks"))
@pytest.mark.parametrize("strategy", plugins.names("strategies"))
def test_it_trains_merges_saves_and_loads(kind: str, strategy: str, tiny_encoder_dir: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, batches, task = build(tiny_encoder_dir, kind, strategy), OneBatch(kind, tiny_encoder_dir), kinds.model(kind)
    model.output_scale.fill_(task.standardization(example(kind).LABELS)[1])
    sink = MemorySink()
    fit(
        model,
        batches,
        lambda m, b: task.row_losses(m.standardized(b.ids_BT, b.mask_BT, b.type_ids_BT), b.targets).sum(),  # type: ignore[operator]
        optimizer=adamw(parameter_groups(model.named_parameters(), learning_rate=1e-2, weight_decay=0.0), betas=(0.9, 0.99), epsilon=1e-8),
        precision=FP32,
        config=LoopConfig(clip_norm=1.0, schedule="constant", warmup_share=0.0, seed=0, log_every=1),
        sink=sink,
        checkpoints=CheckpointStore(tmp_path / "checkpoints"),
    )
    assert sink.rows[-1]["train/loss"] < sink.rows[0]["train/loss"]
    inputs = (batches.batch.ids_BT, batches.batch.mask_BT, batches.batch.type_ids_BT)
    before = model(*inputs)
    plugins.load("strategies", strategy).merge(model.encoder)
    # folding the low-rank product into the weight adds in another order
    torch.testing.assert_close(model(*inputs), before, rtol=1e-4, atol=1e-4)
    save_task_model(model, tiny_encoder_dir, tmp_path)
    torch.testing.assert_close(load_task_model(tmp_path)(*inputs), model(*inputs), rtol=0, atol=0)


@pytest.mark.parametrize("name", plugins.names("retention"))
def test_retention_ends_at_the_adapted_weights(name: str) -> None:
    component = plugins.load("retention", name)
    base, adapted = {"w": torch.zeros(3)}, {"w": torch.ones(3)}
    assert all(0 < share <= 1 for share in component.candidates(component.Config()))
    assert torch.equal(component.combine(base, adapted, 1.0)["w"], adapted["w"])
