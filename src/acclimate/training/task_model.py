"""Backbone, pooling and a head: what fine-tuning trains and export takes.

Shape suffixes: B rows, T tokens, D width, C outputs.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from acclimate import artifacts
from acclimate.backbones.base import Backbone, TaskHead
from acclimate.backbones.fast.attention import RealTokens
from acclimate.backbones.fast.dropout import Dropout
from acclimate.backbones.loading import CONFIG, SOURCE, WEIGHTS, load_backbone, save_weights
from acclimate.backbones.saving import copy_tokenizer, saved_config, write_sentence_modules
from acclimate.errors import ConfigError, ModelError

ADDED_WEIGHTS, TASK = "head.safetensors", "task.json"
"""What fine-tuning added to the backbone's own tensors, the head with the rest; what the model is for."""
_PLAIN = {"head.weight", "head.bias", "output_shift", "output_scale"}
"""What is added where no strategy adds anything and the head is linear."""


@dataclass(frozen=True)
class TaskSpec:
    """What a fine-tuned model is for; stored beside it as task.json."""

    name: str
    kind: str
    labels: list[str] | None
    pair: bool
    metric: str
    pooling: Literal["mean", "first"]
    max_length: int
    encoder: str
    seed: int
    hidden_size: int
    num_outputs: int
    options: dict[str, Any] = field(default_factory=dict)
    """What the kind's table carries to training and serving."""
    recipe: str = ""
    strategy: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Its name and options; what does not merge is built from it again at loading. Empty: nothing was added."""
    texts: dict[str, list[str]] = field(default_factory=dict)
    """Which rules cleaned the texts, and which kinds of personal data were replaced. Empty: those of a model made before it was kept."""


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

    def __init__(self, backbone: Backbone, spec: TaskSpec, *, dropout: float = 0.0) -> None:
        super().__init__()
        from acclimate import kinds  # here, because what trains imports no pydantic

        kind = kinds.model(spec.kind)
        self.base = _tensors(backbone.model)
        """The backbone's own tensors, by their names before a strategy adds to it."""
        self.backbone, self.spec, self.per_token = backbone, spec, kind.per_token
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
        first_only = not self.per_token and self.spec.pooling == "first"
        hidden = self.backbone.padded(input_ids, attention_mask, token_type_ids, real=real, first_only=first_only)
        features = hidden if self.per_token or first_only else pool(hidden, attention_mask, self.spec.pooling)
        logits: Tensor = self.head(self.dropout(features))
        return logits

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Logits in the labels' own unit."""
        return self.standardized(input_ids, attention_mask, token_type_ids) * self.output_scale + self.output_shift

    def added(self) -> dict[str, Tensor]:
        """Every tensor that is none of the backbone's own: the head, and what a strategy added."""
        base = set(map(id, self.base.values()))
        return {name: tensor for name, tensor in _tensors(self).items() if id(tensor) not in base}


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """A module's state with the tensors themselves, so that each can be told by its identity."""
    state: dict[str, Tensor] = module.state_dict(keep_vars=True)
    return state


def save_task_model(model: TaskModel, template: Path, out: Path) -> None:
    """Write the backbone's weights, what was added, config, tokenizer and task.json.

    Transformers' class for the task loads the directory where it computes the same, and refuses it where it does not.
    """
    from acclimate import kinds

    spec, backbone, kind = model.spec, model.backbone, kinds.model(model.spec.kind)
    head = backbone.task_heads[kind.task_class]
    reads = "each token" if model.per_token else f"{spec.pooling} token"
    is_same = head.reads == reads and model.added().keys() == _PLAIN
    save_weights({**backbone.named_for_heads(model.base), **(_head_weights(model, head) if is_same else _refusal(head))}, out / WEIGHTS)
    save_weights(model.added(), out / ADDED_WEIGHTS)
    names = spec.labels or [f"LABEL_{place}" for place in range(spec.num_outputs)]
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: place for place, name in enumerate(names)}}
    # Also where it is refused: `pipeline` would fall back to a class without a head.
    architecture = f"{type(backbone.model).__name__.split('For')[0].removesuffix('Model')}For{kind.task_class}"
    settings = saved_config(template, architecture, num_labels=len(names), problem_type=kind.problem_type, **labels)
    artifacts.write_json(out / CONFIG, settings)
    copy_tokenizer(template, out, max_length=spec.max_length)
    if backbone.shape == "encoder":
        write_sentence_modules(out, width=backbone.width, pooling=spec.pooling, max_length=spec.max_length)
    if (template / SOURCE).is_file():
        artifacts.copy_hashed(template / SOURCE, out / SOURCE)
    artifacts.write_json(out / TASK, asdict(spec))
    artifacts.write_text(out / "README.md", _readme(spec, architecture, loads=is_same))


def _head_weights(model: TaskModel, head: TaskHead) -> dict[str, Tensor]:
    """Our head under transformers' names, in the labels' unit."""
    (down, up), own = head.scales, model.head
    assert isinstance(own, nn.Linear)
    weight, bias = own.weight * model.output_scale, own.bias * model.output_scale + model.output_shift
    found = {f"{head.name}.weight": weight * up, f"{head.name}.bias": bias}
    if head.before:
        found |= {f"{head.before}.weight": torch.eye(weight.shape[1]) * down, f"{head.before}.bias": torch.zeros(weight.shape[1])}
    return found


def _refusal(head: TaskHead) -> dict[str, Tensor]:
    """A tensor of no shape that fits: transformers would otherwise load the directory with a head of random weights.

    Its report lists the names of tensors, and of nothing else, so one of them says where to look.
    """
    names = ("weight", "does not compute this task, see README.md beside the weights")
    return {f"{head.name}.{name}": torch.zeros(0) for name in names}


def _readme(spec: TaskSpec, architecture: str, *, loads: bool) -> str:
    auto_class = f"AutoModelFor{architecture.split('For')[1]}"
    by_transformers = (
        f"`{auto_class}` loads it and gives the same numbers in float32. To train it further, start from the encoder."
        if loads
        else f"`{auto_class}` refuses it (a size mismatch): {architecture} does not compute what this head does on {spec.pooling} pooling"
        f" by strategy {', '.join(spec.strategy) or 'none'}. Use the registered model or the ONNX export."
    )
    return f"""# {spec.name}: {spec.kind} by {spec.encoder}, recipe {spec.recipe}, seed {spec.seed}

- `acclimate.training.task_model.load_task_model(Path(here))` gives the model; its head is in head.safetensors.
- {by_transformers}
- `AutoTokenizer` cuts texts at {spec.max_length} tokens, as training did. `AutoModel` and `SentenceTransformer` give the encoder.
- The labels stand in config.json in the order of the logits.
"""


def load_task_spec(directory: Path) -> TaskSpec:
    """Read task.json."""
    return TaskSpec(**artifacts.read_json(directory / TASK))


def load_task_model(directory: Path, *, attention: str = "auto") -> TaskModel:
    """Load a fine-tuned model in eval mode, with what its strategy added.

    Raises:
        ModelError: missing files, a strategy that is no more, or a tensor that comes neither from the backbone's file nor from the other.
    """
    from safetensors.torch import load_file

    from acclimate import plugins

    spec = load_task_spec(directory)
    model = TaskModel(load_backbone(directory, attention=attention), spec)
    for name, options in spec.strategy.items():
        try:
            strategy = plugins.configure("strategies", name, options, where=f"strategy.{name}")
        except ConfigError as error:
            raise ModelError(f"{directory / TASK}: {error}") from None
        if not strategy.merges:
            strategy.apply(model, torch.Generator().manual_seed(spec.seed))
    added, wanted = load_file(directory / ADDED_WEIGHTS), model.added()
    unlike = sorted(
        name for name in added.keys() | wanted.keys() if name not in added or name not in wanted or added[name].shape != wanted[name].shape
    )
    if unlike:
        raise ModelError(f"{directory / ADDED_WEIGHTS}: does not fit {TASK}: {len(unlike)} tensors, such as {', '.join(unlike[:3])}")
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(added[name])
    return model.eval()
