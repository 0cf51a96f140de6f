"""Find the pretrained encoder, check the sha256 of its files, add domain words where asked for, and keep it as an artifact.

Beside it stands a control: the same architecture, config and tokenizer with random weights.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path

from acclimate.backbones.loading import SOURCE
from acclimate.backbones.options import ModelConfig
from acclimate.backbones.scratch import write_scratch
from acclimate.backbones.source import copy_backbone
from acclimate.backbones.vocabulary_extension import extend_backbone, plan_extension
from acclimate.code import Code
from acclimate.data.tokens.encoding import load_tokenizer
from acclimate.data.tokens.fertility import sampled_batches
from acclimate.settings import Options
from stages.command import Out, StageContext, main

_TRAIN_CHARS, _HELDOUT_CHARS = 20_000_000, 2_000_000
logger = logging.getLogger("stages.backbone")


class Params(Options):
    """What this stage reads."""

    seed: int
    model: ModelConfig


def run(params: Params, *, corpus: Path, heldout: Path, out: Out, scratch: Out, context: StageContext) -> None:
    """Write the encoder to `out`, and to `scratch` one like it with random weights, which `seed` draws.

    Args:
        corpus: domain text that new words are chosen from; read only where `model.vocabulary.new_words` asks for some.
        heldout: domain text on which they must save tokens.

    Raises:
        ModelError: weights that are missing or not those of params.yaml, or new words that are not worth having.
    """
    if params.model.vocabulary.new_words:
        _write_extended(params.model, corpus, heldout, out, context)
    else:
        copy_backbone(params.model, out, code_of=Code().of_family)
    write_scratch(out, scratch, seed=params.seed)


def _write_extended(model: ModelConfig, corpus: Path, heldout: Path, out: Path, context: StageContext) -> None:
    """Write the encoder with domain words."""
    with tempfile.TemporaryDirectory(dir=out.parent) as directory:
        original = Path(directory)
        copy_backbone(model, original, code_of=Code().of_family)
        texts = list(sampled_batches(heldout, max_chars=_HELDOUT_CHARS))
        plan = plan_extension(load_tokenizer(original), sampled_batches(corpus, max_chars=_TRAIN_CHARS), texts, model.vocabulary)
        extend_backbone(original, plan, out)
        shutil.copyfile(original / SOURCE, out / SOURCE)
    logger.info("%d words added; %.1f %% fewer tokens a word on held-out text", len(plan.words), 100 * plan.fertility_drop)
    context.final_metrics.update(new_words=float(len(plan.words)), fertility_drop=plan.fertility_drop)


if __name__ == "__main__":
    main(run, Params)
