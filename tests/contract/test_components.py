"""Every component that is found: cites a source, validates its options, trains, resumes, parts, saves, loads and exports."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from acclimate import kinds, plugins
from acclimate.launch import run_processes
from acclimate.sinks import MemorySink
from acclimate.training.checkpoints import CheckpointStore
from acclimate.training.distributed import World
from acclimate.training.loop import LoopConfig, fit
from acclimate.training.optimizers import adamw
from acclimate.training.task_model import load_task_model, save_task_model
from tests.conftest import write_tiny_encoder
from tests.contract.made import CASES, FP32, Made, fine_tuning, gradients, write_tiny_t5

FAMILIES = ("objectives", "retention", "strategies", "terms")
EVERY = [(family, name) for family in FAMILIES for name in plugins.names(family)]
CITATION = re.compile(r"\(.* \d{4}.*https://", re.DOTALL)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory, minilm_dir: Path) -> Path:
    """A tiny backbone of each shape."""
    directory = tmp_path_factory.mktemp("encoders")
    (directory / "encoder").mkdir()
    write_tiny_encoder(directory / "encoder", minilm_dir)
    write_tiny_t5(directory / "encoder_decoder")
    return directory


@pytest.mark.parametrize(("family", "name"), EVERY)
def test_it_cites_its_source_and_refuses_unknown_options(family: str, name: str) -> None:
    component = plugins.load(family, name)
    module = __import__(f"acclimate.{family}.{name}", fromlist=["__doc__"])
    assert CITATION.search(module.__doc__ or "")
    component()
    with pytest.raises(ValidationError):
        component(no_such_option=1)


@pytest.mark.parametrize("kind", plugins.names("tasks"))
def test_a_kind_cites_its_source(kind: str) -> None:
    assert CITATION.search(__import__(f"acclimate.tasks.{kind}", fromlist=["__doc__"]).__doc__ or "")


class Stopped(BaseException):
    """Stands for the power cut."""


def trained_for(made: Made, directory: Path, *, stop_at: int | None = None) -> list[torch.Tensor]:
    """Every tensor after training; with `stop_at` the run dies in that step, after a checkpoint of the one before."""

    class Dying(MemorySink):
        def log(self, step: int, metrics: Any, *, timing: Any = None) -> None:
            super().log(step, metrics, timing=timing)
            if stop_at == step:
                raise Stopped

    config = LoopConfig(clip_norm=1.0, schedule="linear", warmup_share=0.1, seed=1, log_every=1, checkpoint_every_s=0.0)
    fit(
        made.trained,
        made.streams,
        groups=made.groups,
        optimizer=partial(adamw, betas=(0.9, 0.98), epsilon=1e-6),
        precision=FP32,
        config=config,
        sink=Dying(),
        checkpoints=CheckpointStore(directory),
    )
    return [tensor.detach().clone() for tensor in made.trained.state_dict().values()]


@pytest.mark.parametrize("case", CASES)
def test_it_trains_and_resumes_to_the_bit(case: str, encoders: Path, tmp_path: Path) -> None:
    before = [tensor.clone() for tensor in CASES[case](encoders).trained.state_dict().values()]
    undisturbed = trained_for(CASES[case](encoders), tmp_path / "undisturbed")
    assert any(not torch.equal(left, right) for left, right in zip(before, undisturbed, strict=True))
    with pytest.raises(Stopped):
        trained_for(CASES[case](encoders), tmp_path / "stopped", stop_at=2)
    resumed = trained_for(CASES[case](encoders), tmp_path / "stopped")
    assert all(torch.equal(left, right) for left, right in zip(undisturbed, resumed, strict=True))


@pytest.mark.parametrize("case", CASES)
def test_its_losses_are_those_that_it_counts_and_weighs(case: str, encoders: Path) -> None:
    made = CASES[case](encoders)
    named: set[str] = set()
    for work in made.streams.window(0):
        found = made.trained(work.batch, work.stream)
        assert found.keys() == work.batch.counts().keys()
        named |= found.keys()
        family, name = case.split("/")
        if family in ("objectives", "terms"):
            assert all(loss == "task" or loss.startswith(name) for loss in found)
            assert name in found or plugins.load(family, name).has_passes
    with_passes = {each for each in plugins.names("terms") if plugins.load("terms", each).has_passes}
    assert named <= made.trained.weights.keys() <= named | with_passes


@pytest.mark.parametrize("case", CASES)
def test_gradients_do_not_depend_on_the_micro_batch_size(case: str, encoders: Path) -> None:
    made = CASES[case](encoders)
    if not all(stream.divisible for stream in made.streams.streams):
        pytest.skip("its rows need each other")
    assert_alike(gradients(CASES[case](encoders), World(), micro_batch_size=1), gradients(made, World()))


@pytest.fixture(scope="module")
def parted(encoders: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Gradients of two processes, in one launch for all components."""
    out = tmp_path_factory.mktemp("parted") / "found.pt"
    status, lines = run_processes(["-m", "tests.contract.made", str(encoders), str(out)], 2, 1, None)
    assert status == 0, lines
    found: dict[str, Any] = torch.load(out)
    return found


@pytest.mark.parametrize("sharding", ["ddp", "fsdp"])
@pytest.mark.parametrize("case", CASES)
def test_two_processes_give_the_gradients_of_one(case: str, sharding: str, encoders: Path, parted: dict[str, Any]) -> None:
    made = CASES[case](encoders)
    if not all(stream.divisible for stream in made.streams.streams):
        assert f"{case}-{sharding}" not in parted
        return
    assert_alike(parted[f"{case}-{sharding}"], gradients(made, World()))


def assert_alike(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """Equal but for the order of float32 sums."""
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=2e-6, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("kind", plugins.names("tasks"))
@pytest.mark.parametrize("strategy", plugins.names("strategies"))
def test_a_fine_tuned_model_computes_the_same_in_training_saved_loaded_and_exported(
    kind: str, strategy: str, encoders: Path, tmp_path: Path
) -> None:
    made = fine_tuning(encoders, kind=kind, strategy=strategy)
    trained_for(made, tmp_path / "checkpoints")
    model, component = made.trained.kept(), plugins.load("strategies", strategy)()
    batch = made.streams.window(0)[0].batch
    inputs = (batch.ids_BT, batch.mask_BT, batch.type_ids_BT)
    real = batch.mask_BT.bool()
    with torch.no_grad():
        in_training = model.train()(*inputs)
        before = model.eval()(*inputs)
    per_token = kinds.model(kind).per_token
    chosen = real if per_token else slice(None)
    # the fast path sums in another order than transformers' forward
    torch.testing.assert_close(in_training[chosen], before[chosen], rtol=1e-4, atol=1e-5)
    component.merge(model)
    with torch.no_grad():
        # folding a product into a weight adds in another order
        torch.testing.assert_close(model(*inputs)[chosen], before[chosen], rtol=1e-4, atol=1e-4)
    save_task_model(model, encoders / "encoder", tmp_path)
    loaded = load_task_model(tmp_path, attention="sdpa")
    with torch.no_grad():
        torch.testing.assert_close(loaded(*inputs)[chosen], model(*inputs)[chosen], rtol=1e-4, atol=1e-5)
    if strategy == plugins.names("strategies")[0] or kind == plugins.names("tasks")[0]:
        assert_exports(loaded, inputs, chosen, tmp_path / "model.onnx")


def assert_exports(model: Any, inputs: tuple[torch.Tensor, ...], chosen: Any, path: Path) -> None:
    from acclimate.export.graph import export_graph
    from acclimate.export.predictor import INPUT_NAMES, open_session

    export_graph(model, path, max_length=24)
    session = open_session(path)
    wanted = {value.name for value in session.get_inputs()}
    given = {name: tensor.numpy() for name, tensor in zip(INPUT_NAMES, inputs, strict=True) if name in wanted}
    found = session.run(None, given)[0]
    with torch.no_grad():
        expected = model(*inputs).numpy()
    mask = chosen.numpy() if isinstance(chosen, torch.Tensor) else chosen
    np.testing.assert_allclose(found[mask], expected[mask], rtol=1e-3, atol=1e-4)


def test_a_strategy_that_is_no_more_and_a_tensor_that_fits_nowhere_are_refused(encoders: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from acclimate import artifacts
    from acclimate.errors import ModelError

    made = fine_tuning(encoders)
    save_task_model(made.trained.kept(), encoders / "encoder", tmp_path)
    added = load_file(tmp_path / "head.safetensors")
    save_file({**added, "prompt.vectors_PD": torch.zeros(2, 32)}, tmp_path / "head.safetensors")
    with pytest.raises(ModelError, match=r"head.safetensors: does not fit task.json: 1 tensors, such as prompt.vectors_PD"):
        load_task_model(tmp_path)
    task = artifacts.read_json(tmp_path / "task.json")
    artifacts.write_json(tmp_path / "task.json", {**task, "strategy": {"gone": {}}})
    with pytest.raises(ModelError, match=r"task.json: 'gone' is not one of the strategies"):
        load_task_model(tmp_path)
