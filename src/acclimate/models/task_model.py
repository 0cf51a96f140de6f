"""Encoder, pooling and a linear head: what fine-tuning trains and export takes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from acclimate import artifacts
from acclimate.errors import ModelError
from acclimate.models.attention import RealTokens, real_tokens
from acclimate.models.backbone import POST_NORM, load_encoder, save_encoder, save_weights
from acclimate.models.dropout import Dropout, replace_dropout
from acclimate.models.gelu import replace_gelu
from acclimate.models.packed import encode_unpadded

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
    options: dict[str, Any] = field(default_factory=dict)
    """What the kind's table carries to training and serving."""


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

    def __init__(self, encoder: Any, spec: TaskSpec, *, dropout: float = 0.0) -> None:
        super().__init__()
        replace_dropout(encoder)
        replace_gelu(encoder)
        self.encoder = encoder
        self.spec = spec
        from acclimate import kinds  # here, because what trains imports no pydantic

        kind = kinds.model(spec.kind)
        self.per_token = kind.per_token
        self.dropout = Dropout(dropout)
        self.head = kind.head(spec.hidden_size, spec.num_outputs)
        self.register_buffer("output_shift", torch.zeros(()))
        self.register_buffer("output_scale", torch.ones(()))

    def standardized(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None, real: RealTokens | None = None
    ) -> Tensor:
        """Logits before shift and scale: what the loss sees.

        Args:
            real: where the real tokens are, for training; worked out from the mask where the batch does not tell.
        """
        if self.training and self.encoder.config.model_type in POST_NORM:
            real = real or real_tokens(attention_mask.sum(1).cpu().numpy(), attention_mask.shape[1])
            features = self._training_features(input_ids, attention_mask, token_type_ids, real)
        else:
            extra = {"token_type_ids": token_type_ids} if token_type_ids is not None and self.takes_type_ids else {}
            hidden_BTD = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **extra).last_hidden_state
            features = hidden_BTD if self.per_token else pool(hidden_BTD, attention_mask, self.spec.pooling)
        logits: Tensor = self.head(self.dropout(features))
        return logits

    def _training_features(self, ids_BT: Tensor, mask_BT: Tensor, type_ids_BT: Tensor | None, real: RealTokens) -> Tensor:
        """What the head sees, by the written-out forward over real tokens; of the last layer only the first where no other is pooled."""
        first_only = not self.per_token and self.spec.pooling == "first"
        hidden = encode_unpadded(self.encoder, ids_BT, mask_BT, type_ids_BT, real, first_only=first_only)
        return hidden if self.per_token or first_only else pool(hidden, mask_BT, self.spec.pooling)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Logits in the labels' own unit."""
        return self.standardized(input_ids, attention_mask, token_type_ids) * self.output_scale + self.output_shift

    @property
    def takes_type_ids(self) -> bool:
        """Whether the encoder tells the two texts of a pair apart by type ids."""
        return int(getattr(self.encoder.config, "type_vocab_size", 0)) > 1


def save_task_model(model: TaskModel, template: Path, out: Path) -> None:
    """Write encoder, head, config, tokenizer and task.json."""
    save_encoder(model.encoder, template, out)
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
    model = TaskModel(load_encoder(directory, attention=attention), spec)
    head = load_file(directory / HEAD_WEIGHTS)
    try:
        model.head.load_state_dict({name.removeprefix("head."): tensor for name, tensor in head.items() if name.startswith("head.")})
    except (KeyError, RuntimeError) as error:
        raise ModelError(f"{directory / HEAD_WEIGHTS}: does not fit {TASK}: {error}") from None
    model.output_shift.copy_(head["output_shift"])
    model.output_scale.copy_(head["output_scale"])
    return model.eval()
