"""Our LoRA against peft's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from acclimate.backbones.loading import load_backbone
from acclimate.strategies.lora import Lora, LowRankLinear
from acclimate.training.task_model import TaskModel, TaskSpec


def classifier(encoder_dir: Path) -> TaskModel:
    spec = TaskSpec(
        name="section",
        kind="classification",
        labels=["a", "b"],
        pair=False,
        metric="accuracy",
        pooling="mean",
        max_length=32,
        encoder="tiny",
        recipe="lora",
        seed=0,
        strategy={"lora": {}},
        hidden_size=32,
        num_outputs=2,
    )
    return TaskModel(load_backbone(encoder_dir), spec)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # raised inside peft
def test_lora_equals_peft_before_and_after_merging(tiny_encoder_dir: Path) -> None:
    from peft import LoraConfig, get_peft_model

    strategy, model = Lora(rank=4, alpha=8.0), classifier(tiny_encoder_dir)
    strategy.apply(model, torch.Generator())
    ours = model.backbone.model
    theirs = get_peft_model(
        load_backbone(tiny_encoder_dir).model, LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0, target_modules=["query", "value"])
    )
    generator = torch.Generator().manual_seed(0)
    for name, module in ours.named_modules():
        if isinstance(module, LowRankLinear):
            down, up = (torch.randn(p.shape, generator=generator) for p in (module.down, module.up))
            module.down.data.copy_(down)
            module.up.data.copy_(up)
            peft_module = theirs.base_model.model.get_submodule(name)
            peft_module.lora_A["default"].weight.data.copy_(down)
            peft_module.lora_B["default"].weight.data.copy_(up)
    ids = torch.randint(1000, 30000, (3, 17), generator=generator)
    expected = theirs(input_ids=ids).last_hidden_state
    # the same float32 operations in the same order up to one addition
    torch.testing.assert_close(ours(input_ids=ids).last_hidden_state, expected, rtol=1e-5, atol=1e-5)
    trainable = {name for name, p in model.backbone.named_parameters() if p.requires_grad}
    assert len(trainable) == 8 and all(name.endswith((".down", ".up")) for name in trainable)
    assert all(p.requires_grad for p in model.head.parameters())
    strategy.merge(model)
    assert not any(isinstance(module, LowRankLinear) for module in model.modules())
    torch.testing.assert_close(ours(input_ids=ids).last_hidden_state, expected, rtol=1e-4, atol=1e-5)


def test_what_lora_starts_from_depends_on_the_generator_alone(tiny_encoder_dir: Path) -> None:
    starts = []
    for seed, disturbance in ((5, 1), (5, 2), (6, 1)):
        model = classifier(tiny_encoder_dir)
        torch.manual_seed(disturbance)
        Lora().apply(model, torch.Generator().manual_seed(seed))
        starts.append(torch.cat([module.down.flatten() for module in model.modules() if isinstance(module, LowRankLinear)]).detach())
    assert torch.equal(starts[0], starts[1]) and not torch.equal(starts[0], starts[2])
