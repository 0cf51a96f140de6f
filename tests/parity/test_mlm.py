"""Masking rates against their definition, and the head on masked positions against the full head."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from acclimate.backbones.loading import load_backbone
from acclimate.data.tokens.encoding import Vocabulary
from acclimate.objectives._masked_lm import MaskedBatch
from acclimate.objectives.mlm import Mlm
from acclimate.protocols import Draw, Facts, PackedRows, keyed_generator

VOCABULARY = Vocabulary(size=30522, mask_id=103, special_ids=(0, 100, 101, 102, 103))


FACTS = Facts(VOCABULARY, 0, np.ones(30522, dtype=np.int64), dict)


def rows(count: int, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(1000, 30000, (count, tokens), generator=keyed_generator(1))
    ids[:, 0] = 101
    ids[:, tokens // 2] = 102
    segments = torch.ones_like(ids)
    segments[:, tokens // 2 + 1 :] = 2
    return ids, segments


def masked(objective: Mlm, ids: torch.Tensor, segments: torch.Tensor, index: int) -> MaskedBatch:
    return objective.batch(PackedRows(ids, segments, lambda: segments), FACTS, Draw(0, "mlm", index))


def test_rates_are_eighty_ten_ten_of_the_chosen() -> None:
    ids, segments = rows(500, 128)
    batch = masked(Mlm(rate=0.15), ids, segments, 2)
    new = batch.ids_BT.flatten()[batch.masked]
    chosen = len(batch.masked) / (500 * 126)
    became_mask, kept = (new == 103).float().mean().item(), (new == batch.labels_M).float().mean().item()
    # three standard errors of a share over 9,450 draws are below 0.013
    assert chosen == pytest.approx(0.15, abs=0.005)
    assert became_mask == pytest.approx(0.8, abs=0.013)
    assert kept == pytest.approx(0.1, abs=0.01)


def test_no_special_token_is_chosen_and_nothing_else_changes() -> None:
    ids, segments = rows(50, 64)
    batch = masked(Mlm(rate=0.9), ids, segments, 3)
    assert not torch.isin(batch.labels_M, torch.tensor(VOCABULARY.special_ids)).any()
    untouched = torch.ones(ids.numel(), dtype=torch.bool)
    untouched[batch.masked] = False
    assert torch.equal(batch.ids_BT.flatten()[untouched], ids.flatten()[untouched])


def test_the_same_number_gives_the_same_masks_and_another_gives_others() -> None:
    ids, segments = rows(4, 32)
    first, second, third = (masked(Mlm(), ids, segments, index) for index in (9, 9, 10))
    assert torch.equal(first.ids_BT, second.ids_BT) and not torch.equal(first.ids_BT, third.ids_BT)


@pytest.mark.parametrize(
    "config", [Mlm(rate=0.15), Mlm(rate=0.4, mask_share=0.5, random_share=0.5), Mlm(mask_share=0, random_share=0)], ids=str
)
def test_masks_equal_those_of_the_definition_written_in_torch(config: Mlm) -> None:
    ids, segments = rows(40, 96)
    ours = masked(config, ids, segments, 4)
    generator = Draw(0, "mlm", 4).generator()
    special = torch.isin(ids, torch.tensor(VOCABULARY.special_ids))
    chosen = ((torch.rand(ids.shape, generator=generator) < config.rate) & ~special).flatten().nonzero().squeeze(1)
    labels = ids.flatten()[chosen]
    fate = torch.rand(len(chosen), generator=generator)
    drawn = torch.randint(VOCABULARY.size, (len(chosen),), generator=generator)
    becomes = torch.where(fate < config.mask_share + config.random_share, drawn, labels)
    expected = ids.flatten().clone()
    expected[chosen] = torch.where(fate < config.mask_share, 103, becomes)
    assert torch.equal(ours.masked, chosen) and torch.equal(ours.labels_M, labels)
    assert torch.equal(ours.ids_BT, expected.view_as(ids))
    assert ours.ids_BT.data_ptr() != ids.data_ptr(), "the text itself is left as it was"


def test_loss_on_masked_positions_equals_that_of_the_full_head(tiny_encoder_dir: Path) -> None:
    model = Mlm().build(load_backbone(tiny_encoder_dir), FACTS, torch.Generator())
    ids, segments = rows(3, 24)
    batch = masked(Mlm(rate=0.3), ids, segments, 5)
    hidden = model.head.transform(model.backbone.packed(batch.ids_BT, segments))
    logits = hidden @ model.backbone.embeddings.T + model.head.bias_V
    labels = torch.full_like(ids, -100).flatten()
    labels[batch.masked] = batch.labels_M
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels, ignore_index=-100, reduction="sum")
    torch.testing.assert_close(model(batch, "mlm"), {"mlm": expected}, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_packed_documents_do_not_see_each_other(tiny_encoder_dir: Path, attention: str) -> None:
    backbone = load_backbone(tiny_encoder_dir, attention=attention)
    ids, segments = rows(2, 24)
    packed = backbone.packed(ids, segments)
    alone_first, alone_second = (backbone.model(input_ids=part).last_hidden_state for part in (ids[:, :13], ids[:, 13:]))
    torch.testing.assert_close(packed, torch.cat([alone_first, alone_second], dim=1), rtol=1e-4, atol=1e-5)
