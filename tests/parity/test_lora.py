"""Our LoRA against peft's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from acclimate.backbones.loading import load_backbone
from acclimate.models.low_rank import LowRankLinear
from acclimate.strategies import lora


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # raised inside peft
def test_lora_equals_peft_before_and_after_merging(tiny_encoder_dir: Path) -> None:
    from peft import LoraConfig, get_peft_model

    config = lora.Config(rank=4, alpha=8.0)
    ours = load_backbone(tiny_encoder_dir)
    lora.apply(ours, config)
    theirs = get_peft_model(
        load_backbone(tiny_encoder_dir).model, LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0, target_modules=["query", "value"])
    )
    generator = torch.Generator().manual_seed(0)
    for name, module in ours.model.named_modules():
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
    torch.testing.assert_close(ours.model(input_ids=ids).last_hidden_state, expected, rtol=1e-5, atol=1e-5)
    trainable = {name for name, p in ours.named_parameters() if p.requires_grad}
    assert len(trainable) == 8 and all(name.endswith((".down", ".up")) for name in trainable)
    lora.merge(ours)
    assert not any(isinstance(module, LowRankLinear) for module in ours.modules())
    torch.testing.assert_close(ours.model(input_ids=ids).last_hidden_state, expected, rtol=1e-4, atol=1e-5)
