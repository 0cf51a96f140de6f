"""Find the pretrained encoder, check its weights' sha256, and keep it as an artifact."""

from __future__ import annotations

from acclimate.config import ModelConfig, Section
from acclimate.models.backbone import copy_backbone
from stages.command import Out, StageContext, main


class Params(Section):
    """What this stage reads."""

    model: ModelConfig


def run(params: Params, *, out: Out, context: StageContext) -> None:
    """Write the encoder to `out`."""
    copy_backbone(params.model, out)


if __name__ == "__main__":
    main(run, Params)
