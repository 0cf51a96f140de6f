"""A pretrained model as the rest of the code sees it: embed, encode, layers.

A family is one file beside this one: a class below `Backbone` whose `model_types` is a literal tuple, and `COMPONENT` at the file's end.

Shape suffixes: B rows, T tokens, M asked positions, D width, V vocabulary.
"""

from __future__ import annotations

import logging
import os
import shutil
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from acclimate.backbones.fast.attention import Pieces, Positions, RealTokens
from acclimate.backbones.fast.dropout import replace_dropout
from acclimate.backbones.fast.gelu import replace_gelu
from acclimate.backbones.fast.rows import block_mask, piece_positions

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Shape = Literal["encoder", "decoder", "encoder_decoder"]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class HeadNames:
    """What a checkpoint calls the parts of its masked-LM head: dense, activation, norm, then a product with the embeddings plus a bias."""

    dense: str
    norm: str
    bias: tuple[str, ...]
    decoder: tuple[str, ...] = ()
    activation: str | None = None
    """The config's field; None is GELU."""


@dataclass(frozen=True)
class TaskHead:
    """Where a class of transformers such as `BertForTokenClassification` has its head, and what it computes.

    Such a class may put a linear layer and an activation before the head. Theirs is then the identity: the layer scales its input down
    to where the activation is linear in float32, and the head scales it up again.
    """

    name: str
    """The last linear layer."""
    reads: Literal["each token", "first token", "nothing of ours"] = "each token"
    before: str | None = None
    """The linear layer before it."""
    activation: Literal["tanh", "gelu"] | None = None
    """Behind that layer."""

    @property
    def scales(self) -> tuple[float, float]:
        """Of the layer before and of the head. Powers of two cost no digit: tanh(x) is x up to 3e-10, gelu(x) is x / 2."""
        return {"tanh": (2.0**-20, 2.0**20), "gelu": (2.0**-24, 2.0**25)}[self.activation] if self.activation else (1.0, 1.0)


@dataclass(frozen=True)
class Embedded:
    """Rows between embedding and encoding, where edits act."""

    hidden_BTD: Tensor
    """Word embeddings; positions and types are added by `Backbone.encode`."""
    mask_BT: Tensor
    type_ids_BT: Tensor | None = None
    extra: int = 0
    """Positions at the front that hold no token of the row, such as a soft prompt."""


Edit = Callable[[Embedded], Embedded]


class Backbone(nn.Module):
    """A model of transformers without its head.

    `packed` and `padded` are what training and prediction call. This class computes both by transformers' own forward; `PostNorm` has
    another way. What `edits` holds is applied between `embed` and `encode`, in order.
    """

    model_types: ClassVar[tuple[str, ...]]
    """Values of `model_type` in config.json that this family reads; a literal, since `loading.families` reads it without an import."""
    shape: ClassVar[Shape] = "encoder"
    kernels: ClassVar[tuple[str, ...]] = ("eager", "sdpa")
    """Kinds of attention that the family can compute."""
    heads: ClassVar[tuple[HeadNames, ...]] = ()
    """Where the family has had several masked-LM heads, the first whose weights are there is meant."""
    task_heads: ClassVar[dict[str, TaskHead]] = {
        "SequenceClassification": TaskHead("classifier", "nothing of ours"),
        "TokenClassification": TaskHead("classifier"),
        "QuestionAnswering": TaskHead("qa_outputs"),
    }
    """By what follows `For` in the names of transformers' classes."""
    head_weights: ClassVar[tuple[str, ...]] = ()
    """How the names of weights begin that a checkpoint may hold beside the model's own: heads and poolers."""
    old_buffers: ClassVar[tuple[str, ...]] = ("position_ids", "token_type_ids", "inv_freq")
    """How the names of constants end that older versions of transformers wrote among the weights."""
    dropout_fields: ClassVar[tuple[str, ...]] = ("hidden_dropout_prob",)
    """The config's rates of hidden dropout."""
    attention_dropout_fields: ClassVar[tuple[str, ...]] = ("attention_probs_dropout_prob",)
    positions: ClassVar[tuple[str, int] | None] = ("max_position_embeddings", 512)
    """The config's field with the rows of the position embeddings, and what is meant where it is absent; None: positions know no end."""
    model_options: ClassVar[dict[str, Any]] = {}
    """Arguments of the model's constructor."""
    compiled: ClassVar[tuple[str, ...]] = ("_run", "_packed_rows")
    """Methods that `prepare` compiles."""

    def __init__(self, model: PreTrainedModel, *, varlen: bool = False) -> None:
        """Wrap a model.

        Args:
            varlen: use variable-length attention where precision and device allow it.
        """
        super().__init__()
        replace_dropout(model)
        replace_gelu(model)
        self.model: Any = model
        self.wants_varlen = varlen
        self.edits: list[Edit] = []

    @classmethod
    def new_model(cls, directory: Path, attention: str, settings: dict[str, Any]) -> PreTrainedModel:
        """A model with random weights.

        Args:
            directory: holds config.json.
            settings: fields of the config that are set otherwise.
        """
        from transformers import AutoConfig, AutoModel

        config = AutoConfig.from_pretrained(str(directory), trust_remote_code=False, local_files_only=True, **settings)
        model: PreTrainedModel = AutoModel.from_config(config, trust_remote_code=False, attn_implementation=attention, **cls.model_options)
        return model

    def named_for_heads(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The model's weights by the names that they have in transformers' classes with a head."""
        return {f"{self.model.base_model_prefix}.{name}": tensor for name, tensor in weights.items()}

    @property
    def config(self) -> Any:
        """The config of transformers."""
        return self.model.config

    @property
    def kernel(self) -> str:
        """The attention of transformers that is used: `eager` or `sdpa`."""
        return str(self.config._attn_implementation)

    @property
    def width(self) -> int:
        """Size of a hidden state."""
        return int(self.config.hidden_size)

    @property
    def embeddings(self) -> Tensor:
        """Word embeddings, (V, embedding width)."""
        weight: Tensor = self.model.get_input_embeddings().weight
        return weight

    @property
    def embedding_width(self) -> int:
        """Size of a word embedding."""
        return int(self.embeddings.shape[1])

    @property
    def vocabulary_size(self) -> int:
        """Rows of the word embeddings."""
        return int(self.embeddings.shape[0])

    @property
    def pad_id(self) -> int:
        """What rows are filled up with; RoBERTa-like models count positions by it, so it must be the tokenizer's."""
        return int(self.config.pad_token_id or 0)

    @property
    def first_position(self) -> int:
        """Position of a row's first token."""
        return 0

    @classmethod
    def most_tokens(cls, settings: Mapping[str, Any]) -> int | None:
        """Most tokens of a text by config.json; None where positions know no end."""
        return None if cls.positions is None else int(settings.get(*cls.positions))

    @property
    def max_length(self) -> int | None:
        """Most tokens of a text; None where positions know no end."""
        return self.most_tokens(self.config.to_dict())

    @property
    def takes_type_ids(self) -> bool:
        """Whether type ids separate the two texts of a pair."""
        return int(getattr(self.config, "type_vocab_size", 0)) > 1

    @property
    def is_unaltered(self) -> bool:
        """Whether no module is wrapped or hooked whose own forward training leaves out; here none is left out."""
        return True

    def below(self) -> list[nn.Module]:
        """The modules before the first block."""
        return [self.model.embeddings]

    def blocks(self) -> list[nn.Module]:
        """The transformer blocks, first to last."""
        return list(self.model.encoder.layer)

    def above(self) -> list[nn.Module]:
        """The modules behind the last block."""
        return []

    def layers(self) -> list[nn.Module]:
        """[embeddings, layer 1, ..., top]: every parameter of the model stands in exactly one."""
        blocks = self.blocks()
        return [together(self.below()), *blocks[:-1], together([blocks[-1], *self.above()])]

    def packed(self, ids_BT: Tensor, segments_BT: Tensor, *, at: Positions | None = None, pieces: Pieces | None = None) -> Tensor:
        """Last hidden states of packed rows, equal to those of each document by itself: (B, T, D), or (M, D) at the asked positions.

        Args:
            segments_BT: document number inside the row.
            pieces: the documents' pieces, told by the batch; variable-length attention needs them.
        """
        del pieces
        assert not self.edits, "an edit changes the rows of a batch; documents in packed rows would get it once a row"
        hidden_BTD = self._packed_rows(ids_BT, segments_BT)
        return hidden_BTD if at is None else hidden_BTD.flatten(0, 1)[at.flat_M]

    def padded(
        self,
        ids_BT: Tensor,
        mask_BT: Tensor,
        type_ids_BT: Tensor | None = None,
        *,
        real: RealTokens | None = None,
        first_only: bool = False,
    ) -> Tensor:
        """Last hidden states of padded rows: (B, T, D), or (B, D) of first tokens; at padding they mean nothing.

        Args:
            mask_BT: true at real tokens, which come first in each row.
            real: the same, as the batch tells it.
        """
        del real
        hidden_BTD, extra = self._by_transformers(ids_BT, mask_BT, type_ids_BT)
        return hidden_BTD[:, extra] if first_only else _behind(extra, hidden_BTD)

    def embed(self, ids_BT: Tensor, mask_BT: Tensor, type_ids_BT: Tensor | None = None) -> Embedded:
        """Word embeddings of padded rows, unedited."""
        return Embedded(self.model.get_input_embeddings()(ids_BT), mask_BT, type_ids_BT)

    def encode(self, embedded: Embedded) -> Tensor:
        """Last hidden states (B, T, D), without the extra positions at the front."""
        return _behind(embedded.extra, self._encode(embedded))

    def hidden_states(self, ids_BT: Tensor, mask_BT: Tensor, type_ids_BT: Tensor | None = None) -> tuple[Tensor, ...]:
        """[embeddings, layer 1, ..., top] of padded rows, each (B, T, D), edits and wrapped modules included."""
        found: list[Tensor] = []

        def keep(_module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
            found.append(given[0] if given else named["hidden_states"])

        # transformers' own way (`output_hidden_states`) sees only its own layer classes, and leaves hooks behind.
        handles = [block.register_forward_pre_hook(keep, with_kwargs=True) for block in self.blocks()]
        try:
            top_BTD, extra = self._by_transformers(ids_BT, mask_BT, type_ids_BT)
        finally:
            for handle in handles:
                handle.remove()
        return tuple(_behind(extra, hidden_BTD) for hidden_BTD in (*found, top_BTD))

    def prepare(self, *, compile: bool, activation_checkpointing: bool) -> None:  # noqa: A002 - the setting's name
        """Apply what changes how training computes but not what: recomputation and compilation."""
        if activation_checkpointing:
            self.model.activation_checkpointing_enable()
        if not compile:
            return
        if not torch.cuda.is_available() and not shutil.which(os.environ.get("CXX", "g++")):
            logger.warning("train.compile: no C++ compiler (g++) here; training runs without compiling")
            return
        for name in self.compiled:
            setattr(self, name, _CompiledInTraining(self, name))

    def _by_transformers(self, ids_BT: Tensor, mask_BT: Tensor, type_ids_BT: Tensor | None) -> tuple[Tensor, int]:
        """Last hidden states by transformers' forward, and how many positions at the front are extra."""
        if not self.edits:
            return self._run(input_ids=ids_BT, attention_mask=mask_BT, **self._types(type_ids_BT)), 0
        embedded = self.embed(ids_BT, mask_BT, type_ids_BT)
        for edit in self.edits:
            embedded = edit(embedded)
        return self._encode(embedded), embedded.extra

    def _encode(self, embedded: Embedded) -> Tensor:
        return self._run(inputs_embeds=embedded.hidden_BTD, attention_mask=embedded.mask_BT, **self._types(embedded.type_ids_BT))

    def _types(self, type_ids_BT: Tensor | None) -> dict[str, Tensor]:
        return {"token_type_ids": type_ids_BT} if type_ids_BT is not None and self.takes_type_ids else {}

    def _run(self, **inputs: Any) -> Tensor:
        hidden_BTD: Tensor = self.model(**inputs).last_hidden_state
        return hidden_BTD

    def _packed_rows(self, ids_BT: Tensor, segments_BT: Tensor) -> Tensor:
        """Packed rows by transformers' forward, told who sees whom: (B, T, D)."""
        mask_B1TT = block_mask(segments_BT, additive=self.kernel == "eager")
        position_BT = piece_positions(segments_BT) + self.first_position
        hidden_BTD: Tensor = self.model(input_ids=ids_BT, attention_mask=mask_B1TT, position_ids=position_BT).last_hidden_state
        return hidden_BTD


def _behind(extra: int, hidden_BTD: Tensor) -> Tensor:
    """Without a slice where nothing is cut off: an exported graph would hold it."""
    return hidden_BTD[:, extra:] if extra else hidden_BTD


class EncoderDecoder(Backbone):
    """What `Backbone` promises holds for the encoder; the decoder writes what follows from it."""

    shape: ClassVar[Shape] = "encoder_decoder"

    @abstractmethod
    def decode(self, ids_BU: Tensor, encoder_hidden_BTD: Tensor, mask_BT: Tensor) -> Tensor:
        """Hidden states of outputs that begin with `start_id`, each seeing those before it and the input, (B, U, D)."""

    @abstractmethod
    def lm_logits(self, hidden_BUD: Tensor) -> Tensor:
        """Of the next token, (B, U, V)."""

    @property
    @abstractmethod
    def start_id(self) -> int:
        """First token of every output."""


class _CompiledInTraining:
    """A method, compiled while training. In evaluation, which has other shapes and is short, compiling would cost more than it saves.

    It holds its owner, so that the copy of a backbone computes with its own weights.
    """

    def __init__(self, owner: Backbone, name: str) -> None:
        self._owner, self._plain = owner, getattr(type(owner), name)
        self._compiled = torch.compile(self._plain, dynamic=True)

    def __call__(self, *given: Any, **named: Any) -> Tensor:
        result: Tensor = (self._compiled if self._owner.training else self._plain)(self._owner, *given, **named)
        return result


def together(modules: Iterable[nn.Module]) -> nn.Module:
    """Several modules as one whose parameters can be listed; one stays itself."""
    given = list(modules)
    return given[0] if len(given) == 1 else nn.ModuleList(given)
