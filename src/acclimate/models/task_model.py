"""Encoder, pooling and a linear head: what fine-tuning trains and export takes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from acclimate import artifacts
from acclimate.backbones.base import Backbone
from acclimate.backbones.fast.attention import RealTokens
from acclimate.backbones.fast.dropout import Dropout
from acclimate.backbones.loading import load_backbone, save_backbone, save_weights
from acclimate.errors import ModelError

HEAD_WEIGHTS, TASK = "head.safetensors", "task.json"


@dataclass(frozen=True)
class TaskSpec:
    """What a fine-tuned model is for; stored beside it as task.json."""

    name: str
    kind: str
    labels: list[str] | None
    pair: bool
    metric: str
    pooling: Literal["mean", "first"]
    max_tokens: int
    encoder: str
    seed: int
    hidden_size: int
    num_outputs: int


def pool(hidden_BTD: Tensor, mask_BT: Tensor, how: Literal["mean", "first"]) -> Tensor:
    """One vector a row, (B, D): the mean over real tokens, or the first token."""
    if how == "first":
        return hidden_BTD[:, 0]
    weights_BT1 = mask_BT.unsqueeze(-1).to(hidden_BTD.dtype)
    return (hidden_BTD * weights_BT1).sum(1) / weights_BT1.sum(1).clamp_min(1.0)


class TaskModel(nn.Module):
    """`forward` gives logits: (B, C), or (B, T, C) for a task that labels each token.

    Regression learns a standardised target; `output_shift` and `output_scale` bring it back to the labels' unit.
    """

    output_shift: Tensor
    output_scale: Tensor

    def __init__(self, encoder: Backbone, spec: TaskSpec, *, per_token: bool, dropout: float = 0.0) -> None:
        super().__init__()
        self.encoder = encoder
        self.spec = spec
        self.per_token = per_token
        self.dropout = Dropout(dropout)
        self.head = nn.Linear(spec.hidden_size, spec.num_outputs)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        self.register_buffer("output_shift", torch.zeros(()))
        self.register_buffer("output_scale", torch.ones(()))

    def standardized(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None, real: RealTokens | None = None
    ) -> Tensor:
        """Logits before shift and scale: what the loss sees.

        Args:
            real: where the real tokens are, for training; worked out from the mask where the batch does not tell.
        """
        first_only = not self.per_token and self.spec.pooling == "first"
        hidden = self.encoder.padded(input_ids, attention_mask, token_type_ids, real=real, first_only=first_only)
        features = hidden if self.per_token or first_only else pool(hidden, attention_mask, self.spec.pooling)
        logits: Tensor = self.head(self.dropout(features))
        return logits

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Logits in the labels' own unit."""
        return self.standardized(input_ids, attention_mask, token_type_ids) * self.output_scale + self.output_shift


def save_task_model(model: TaskModel, template: Path, out: Path) -> None:
    """Write encoder, head, config, tokenizer and task.json."""
    save_backbone(model.encoder, template, out)
    head = {**{f"head.{name}": tensor for name, tensor in model.head.state_dict().items()}, **dict(model.named_buffers(recurse=False))}
    save_weights(head, out / HEAD_WEIGHTS)
    artifacts.write_json(out / TASK, asdict(model.spec))


def load_task_spec(directory: Path) -> TaskSpec:
    """Read task.json."""
    return TaskSpec(**artifacts.read_json(directory / TASK))


def load_task_model(directory: Path, *, attention: str = "auto") -> TaskModel:
    """Load a fine-tuned model in eval mode.

    Raises:
        ModelError: missing files, or a head that does not fit task.json.
    """
    from safetensors.torch import load_file

    spec = load_task_spec(directory)
    model = TaskModel(load_backbone(directory, attention=attention), spec, per_token=spec.kind == "tagging")
    head = load_file(directory / HEAD_WEIGHTS)
    try:
        model.head.load_state_dict({"weight": head["head.weight"], "bias": head["head.bias"]})
    except (KeyError, RuntimeError) as error:
        raise ModelError(f"{directory / HEAD_WEIGHTS}: does not fit {TASK}: {error}") from None
    model.output_shift.copy_(head["output_shift"])
    model.output_scale.copy_(head["output_scale"])
    return model.eval()
