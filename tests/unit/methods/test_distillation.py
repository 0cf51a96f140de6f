"""A copy of the start is imitated on general text; it stands in no checkpoint and does not learn."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from acclimate.backbones.loading import load_backbone
from acclimate.errors import ConfigError
from acclimate.training.distributed import World
from tests.unit.methods.small_pretraining import job, text, train


def test_loss_is_one_minus_the_cosine_to_the_start(tiny_encoder_dir: Path) -> None:
    made = job(tiny_encoder_dir, {"distillation": {"share": 0.5, "strength": 3.0}})
    trained = made.build(load_backbone(tiny_encoder_dir)).eval()
    work = next(work for work in made.batches(3, 3).window(0) if work.stream == "distillation")
    assert work.batch.num_rows == 4 and trained.weights["distillation"] == 3.0
    assert trained(work.batch, "distillation")["distillation"].item() < 1e-3  # 96 tokens, each 0 but for rounding
    start = load_backbone(tiny_encoder_dir).eval()
    with torch.no_grad():
        for parameter in trained.backbone.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        before = start.packed(work.batch.ids_BT, work.batch.segments_BT)
        now = trained.backbone.packed(work.batch.ids_BT, work.batch.segments_BT)
    expected = (1 - torch.nn.functional.cosine_similarity(now, before, dim=-1)).sum()
    torch.testing.assert_close(trained(work.batch, "distillation")["distillation"], expected)
    assert expected > 1.0


def test_the_teacher_is_in_no_checkpoint_and_stays(tiny_encoder_dir: Path, tmp_path: Path) -> None:
    made = job(tiny_encoder_dir, {"distillation": {}})
    states = []
    for _ in range(2):  # the second run resumes from the checkpoint of the last step
        torch.manual_seed(3)
        trained = made.build(load_backbone(tiny_encoder_dir))
        teacher = trained.members["distillation"].teacher
        before = [parameter.clone() for parameter in teacher.parameters()]
        train(made, trained, tmp_path)
        assert not any("teacher" in name for name in trained.state_dict())
        assert all(torch.equal(left, right) for left, right in zip(before, teacher.parameters(), strict=True))
        states.append(list(trained.state_dict().values()))
        trained.load_state_dict(trained.state_dict())
    assert all(torch.equal(left, right) for left, right in zip(*states, strict=True))
    with pytest.raises(RuntimeError, match="Missing key"):
        trained.load_state_dict({})


def test_heads_train_alone_without_general_text(tiny_encoder_dir: Path) -> None:
    made = job(tiny_encoder_dir, {"distillation": {}})
    assert [stream.name for stream in made.batches(3, 3, heads_only=True).streams] == ["mlm"]
    assert [stream.name for stream in made.batches(3, 3).streams] == ["mlm", "distillation"]


def test_too_little_general_text_is_refused(tiny_encoder_dir: Path) -> None:
    made = job(tiny_encoder_dir, {"distillation": {}}, general=text(4, 24 * 5))
    with pytest.raises(ConfigError, match=r"retention.distillation: a batch takes 2 rows of general text, and there are 1 beside"):
        made.batches(3, 3)
    assert made.world == World()
