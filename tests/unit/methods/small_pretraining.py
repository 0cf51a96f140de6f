"""Pretraining on the tiny encoder, with random text and what retention is asked for."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from acclimate.backbones.loading import load_backbone
from acclimate.data.tokens.encoding import read_vocabulary
from acclimate.data.tokens.packing import PackedText, pack
from acclimate.protocols import Facts
from acclimate.sinks import MemorySink
from acclimate.training.checkpoints import CheckpointStore
from acclimate.training.distributed import World
from acclimate.training.loop import LoopConfig, fit
from acclimate.training.mixture import Mixture
from acclimate.training.optimizers import adamw
from acclimate.training.options import EncoderConfig
from acclimate.training.precision import Precision
from acclimate.training.pretraining import Pretraining

FP32 = Precision("fp32", "cpu")


def text(seed: int, num_tokens: int = 960) -> PackedText:
    ids = np.random.default_rng(seed).integers(10, 400, num_tokens).astype(np.uint16)
    return pack(ids, np.arange(0, num_tokens, 24), sequence_length=24, word_start_bits=np.packbits(np.ones(num_tokens, dtype=bool)))


def job(directory: Path, retention: dict[str, Any], *, general: PackedText | None = None) -> Pretraining:
    """Pretraining by masked words of 40 rows; general text has 40 rows, of which forgetting is measured on 4."""
    written = {"start": "base", "objectives": "mlm", "retention": retention, "tokens": 24 * 8 * 3, "batch_size": 8, "heldout_rows": 4}
    config = EncoderConfig.model_validate({**written, "optimizer": {"learning_rate": 1e-3}})
    counts = np.ones(load_backbone(directory).vocabulary_size)
    facts = Facts(read_vocabulary(directory), 0, counts, dict)
    return Pretraining(config, "made", 3, FP32, World(), facts, text(1), text(2), text(4) if general is None else general)


def train(made: Pretraining, trained: Mixture, checkpoints: Path) -> None:
    fit(
        trained,
        made.batches(made.steps, made.seed),
        groups=lambda model: model.groups(made.rates),
        optimizer=partial(adamw, betas=(0.9, 0.98), epsilon=1e-6),
        precision=FP32,
        config=LoopConfig(clip_norm=1.0, schedule="linear", warmup_share=0.1, seed=1, log_every=1, checkpoint_every_s=0.0),
        sink=MemorySink(),
        checkpoints=CheckpointStore(checkpoints),
    )
