"""What a component must be. Read this first.

A component is one file: `objectives/mlm.py` is the objective called `mlm`. It ends with `COMPONENT: type[Objective[...]] = Mlm`, so
that mypy checks it there. The class is a `Options` of params.yaml: its fields are its options.

The loop (training/loop.py) trains a `Trained` and knows nothing else. A step, in its order: gates; the batches of every stream and
their counts; `before_step`; for each stream, micro-batch and pass a forward and a backward, each loss divided by its own count over
the whole step; gradients meet over the processes; those of frozen groups are dropped; `penalty`; clipping; the update; `after_update`.

Shape suffixes: B rows, T tokens, D width.
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, Self, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from acclimate.backbones.base import Backbone
    from acclimate.data.tokens.encoding import Vocabulary
    from acclimate.training.task_model import TaskModel

Losses = dict[str, Tensor]
"""By name, the SUM of a loss over the terms of a micro-batch, not weighted."""
State = dict[str, Tensor]
"""Weights by name."""
Gate = Callable[[int, int], float]
"""(step, steps) -> factor on the rate. 0 is frozen: no gradient, no part in the norm, no step of the optimizer."""


@dataclass(frozen=True)
class Batch:
    """Tensors whose first axis is the row. Every process makes it whole; the loop cuts it."""

    def counts(self) -> dict[str, int]:
        """How many terms each loss will sum. Known before forward: the first micro-batch is already divided by the whole step's count."""
        raise NotImplementedError

    @property
    def num_rows(self) -> int:
        """Rows."""
        return len(getattr(self, fields(self)[0].name))

    @property
    def num_tokens(self) -> int:
        """Real tokens, without padding."""
        raise NotImplementedError

    def part(self, start: int, stop: int) -> Self:
        """Some of the rows, as they stand in the batch."""
        return map_tensors(self, lambda tensor: tensor[start:stop])

    def to(self, device: torch.device) -> Self:
        """The same batch on another device; copied without waiting where its memory is pinned."""
        return self if device.type == "cpu" else map_tensors(self, lambda tensor: tensor.to(device, non_blocking=True))


DataclassT = TypeVar("DataclassT")


def map_tensors(batch: DataclassT, change: Callable[[Tensor], Tensor]) -> DataclassT:
    """A dataclass with every tensor in it changed, also inside dataclasses that it holds."""
    changed: dict[str, Any] = {}
    for field_ in fields(batch):  # type: ignore[arg-type]
        value = getattr(batch, field_.name)
        if isinstance(value, Tensor):
            changed[field_.name] = change(value)
        elif is_dataclass(value):
            changed[field_.name] = map_tensors(value, change)
    return replace(batch, **changed)  # type: ignore[type-var]


@dataclass(frozen=True)
class Draw:
    """All randomness of a batch: a function of these alone, so that a checkpoint holds no generator."""

    seed: int
    stream: str
    index: int
    """Number of the batch in its stream."""
    progress: float = 0.0
    """Share of the run's steps that are done, for options that change along it."""

    def seed_of(self, *more: int) -> int:
        """A seed of this batch; other numbers give independent ones."""
        return keyed_seed(self.seed, zlib.crc32(self.stream.encode()), self.index, *more)

    def generator(self, *more: int) -> torch.Generator:
        """A generator of this batch, from `seed_of`."""
        return torch.Generator().manual_seed(self.seed_of(*more))


def keyed_seed(*key: int) -> int:
    """A seed that depends on nothing but its key."""
    # With the length, since SeedSequence fills short keys up with zeros: (1, 2) and (1, 2, 0) would be the same.
    state = np.random.SeedSequence([len(key), *(part % 2**32 for part in key)]).generate_state(2, np.uint32)
    return int(state[0]) << 31 | int(state[1]) >> 1


def keyed_generator(*key: int) -> torch.Generator:
    """A generator that depends on nothing but its key."""
    return torch.Generator().manual_seed(keyed_seed(*key))


BatchT = TypeVar("BatchT", bound=Batch)
BatchT_co = TypeVar("BatchT_co", bound=Batch, covariant=True)


class View(Protocol):
    """What a source gives for some rows."""

    def join(self, other: Self) -> Self:
        """The rows of both."""


ViewT = TypeVar("ViewT", bound=View)
ViewT_co = TypeVar("ViewT_co", covariant=True)
ViewT_contra = TypeVar("ViewT_contra", contravariant=True)


class Source(Protocol[ViewT_co]):
    """Rows by number. Replay and augmentation are sources around sources."""

    def __len__(self) -> int:
        """Rows."""

    def view(self, rows: np.ndarray, draw: Draw) -> ViewT_co:
        """The given rows, as an objective reads them."""


@dataclass(frozen=True)
class PackedRows:
    """A view: rows of equal length cut from documents laid end to end, (B, T) each."""

    ids_BT: Tensor
    segments_BT: Tensor
    """The piece of a document that each token belongs to."""
    word_starts: Callable[[], Tensor]
    """Gives (B, T): true at the first token of each word."""

    def join(self, other: PackedRows) -> PackedRows:
        """The rows of both."""
        ids_BT, segments_BT = (torch.cat(pair) for pair in ((self.ids_BT, other.ids_BT), (self.segments_BT, other.segments_BT)))
        return PackedRows(ids_BT, segments_BT, lambda: torch.cat([self.word_starts(), other.word_starts()]))


@dataclass(frozen=True)
class Documents:
    """A view: the token ids of whole documents, special tokens included, each (tokens,) int64."""

    ids: list[Tensor]

    def join(self, other: Documents) -> Documents:
        """The documents of both."""
        return Documents([*self.ids, *other.ids])


@dataclass(frozen=True)
class Rates:
    """Learning rates and weight decay as params.yaml gives them."""

    learning_rate: float
    head_learning_rate: float
    weight_decay: float


@dataclass(frozen=True)
class Group:
    """Parameters that share a rate. One that no group lists is not trained; none is listed twice.

    Weight decay applies to matrices and embeddings; norms and biases (fewer than two dimensions) have none.
    """

    parameters: Sequence[nn.Parameter]
    learning_rate: float
    weight_decay: float = 0.0
    gate: Gate | None = None


class Trained(nn.Module, Generic[BatchT]):
    """What the loop trains: a model with its losses."""

    weights: Mapping[str, float] = {}
    """Every loss that `forward` gives, with its weight in the step's sum. Names begin with the component's."""
    needs_warmup: bool = False
    """Whether what was added to the backbone begins untrained, so that the stage trains it alone first."""

    def forward(self, batch: BatchT, stream: str) -> Losses:
        """Losses of a micro-batch. Pure, since it runs again where memory ran out; its only randomness is dropout."""
        raise NotImplementedError

    def passes(self, batch: BatchT, stream: str, call: Callable[[BatchT, str], Losses]) -> Iterator[Losses | Tensor]:
        """What to go backward from, one after the other. A Tensor goes backward as it is; it is neither divided nor weighted.

        Args:
            call: the outermost forward, through which wrappers see every use of the parameters.
        """
        yield call(batch, stream)

    def groups(self, rates: Rates) -> list[Group]:
        """What is trained and how fast."""
        return [Group([each for each in self.parameters() if each.requires_grad], rates.learning_rate, rates.weight_decay)]

    def penalty(self) -> Losses:
        """Losses of the weights alone, taken once a step.

        Weights may be split over processes. What they are compared with lies in frozen parameters, which are split alike, or goes through
        `distributed.split_as`.
        """
        return {}

    def before_step(self, step: int) -> None:
        """A step begins, or begins again: forget what forward left behind."""

    def after_update(self, step: int) -> None:
        """The weights have changed. What is kept here lies in buffers, the same in every process, or frozen parameters."""

    def kept(self) -> nn.Module:
        """What goes on after training."""
        raise NotImplementedError

    def card(self) -> dict[str, Any]:
        """What is worth telling of how the model was made, for the artefact's card."""
        return {}

    def flops_per_token(self, batches: Sequence[BatchT]) -> float | None:
        """Operations of a step for each token, for MFU; None where they are not counted."""
        return None


def _no_documents() -> Source[Documents]:
    raise AssertionError("these facts were made without the corpus")


@dataclass(frozen=True, eq=False)
class Facts:
    """What an objective may know besides the backbone."""

    vocabulary: Vocabulary
    pad_id: int
    unigram_V: np.ndarray
    """How often the corpus holds each token."""
    checkpoint: Callable[[], State]
    """Every tensor of the file that the backbone was loaded from, heads included."""
    documents: Callable[[], Source[Documents]] = _no_documents
    """The documents of the text that is trained on, each as a batch of `Documents` holds it."""


class Objective(Protocol[ViewT_contra, BatchT]):
    """A way to pretrain, complete: its corruption, its heads, its loss."""

    view: ClassVar[type[Any]]
    """What it reads: `PackedRows` or `Documents`."""
    divisible: ClassVar[bool]
    """Whether a batch may be cut; False where its rows need each other."""
    shapes: ClassVar[tuple[str, ...]]
    """Shapes of backbones that it fits: `encoder`, `encoder_decoder`."""

    def build(self, backbone: Backbone, facts: Facts, generator: torch.Generator) -> Trained[BatchT]:
        """The backbone with this objective's own heads."""

    def batch(self, view: ViewT_contra, facts: Facts, draw: Draw) -> BatchT:
        """A batch, with all of its randomness."""


class Strategy:
    """A way to fine-tune: which weights, which new modules, which rates."""

    merges: ClassVar[bool] = True
    """Whether `merge` leaves a plain model. What does not merge is saved as a file of its own."""

    @property
    def extra_tokens(self) -> int:
        """Positions that it takes beside a text's tokens."""
        return 0

    def apply(self, model: TaskModel, generator: torch.Generator) -> None:
        """Add modules and choose what is trained."""

    def groups(self, model: TaskModel, rates: Rates) -> list[Group]:
        """What is trained and how fast: the head, and all else that `apply` left trainable."""
        head = list(model.head.parameters())
        others = set(map(id, head))
        rest = [each for each in model.parameters() if each.requires_grad and id(each) not in others]
        return [Group(rest, rates.learning_rate, rates.weight_decay), Group(head, rates.head_learning_rate, rates.weight_decay)]

    def merge(self, model: TaskModel) -> None:
        """Fold what was added into the weights."""


class Labelled(Protocol):
    """What a term of a fine-tuning loss may know of a batch."""

    @property
    def mask_BT(self) -> Tensor:  # noqa: N802
        """1 at real tokens."""

    @property
    def targets(self) -> Tensor:
        """(B, ...), as the kind's loss reads them."""

    @property
    def terms_B(self) -> Tensor:  # noqa: N802
        """How many terms the loss of each row sums."""


class Term:
    """An extra term of a fine-tuning loss. Each hook may do nothing."""

    has_passes: ClassVar[bool] = False
    """Whether it has `passes`; a recipe may choose one such term at most."""

    def reweigh(self, losses_B: Tensor, batch: Labelled, outputs: Tensor) -> Tensor:
        """The loss of each row, changed or as it is."""
        return losses_B

    def counts(self, batch: Labelled) -> dict[str, int]:
        """How many terms each of its losses sums."""
        return {}

    def losses(self, run: Callable[[], tuple[Tensor, Tensor]], batch: Labelled, outputs: Tensor) -> Losses:
        """A sum over the micro-batch, under the component's name.

        Args:
            run: runs the model on the batch once more, with other dropout; gives its outputs and the loss of each row, (B,).
            outputs: the model's for the batch.
        """
        return {}

    def passes(self, model: TaskModel, batch: Labelled, run: Callable[[], Losses]) -> Iterator[Losses]:
        """Losses to go backward from, one after the other; gradients of the ones before are there.

        Args:
            run: the losses of the batch, of all terms.
        """
        yield run()


class Reference(nn.Module):
    """A model that another is compared with: moved and split with it, never trained, and in no checkpoint, since it is made again."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).requires_grad_(False)
        self._prefix = ""
        self.register_load_state_dict_post_hook(_forget_missing)  # type: ignore[no-untyped-call]
        self.train(False)

    def train(self, mode: bool = True) -> Self:
        """Without dropout, whatever the model around it does."""
        return super().train(False)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Nothing is added to the state of the model around it."""
        return kwargs.get("destination", {})

    def _load_from_state_dict(self, state_dict: State, prefix: str, *args: Any) -> None:
        self._prefix = prefix


def _forget_missing(reference: nn.Module, keys: Any) -> None:
    assert isinstance(reference, Reference)
    keys.missing_keys[:] = [key for key in keys.missing_keys if not key.startswith(reference._prefix)]


class Retention:
    """A way to keep what a model knew, in pretraining and in fine-tuning. Each hook may do nothing."""

    in_finetuning: ClassVar[bool] = False
    """Whether a recipe may choose it: fine-tuning asks for `penalty` and `candidates` alone."""

    def source(self, main: Source[ViewT], general: Source[ViewT] | None) -> Source[ViewT]:
        """The rows to train on.

        Args:
            general: general text in the same view; None in fine-tuning.
        """
        return main

    def penalty(self, backbone: Backbone) -> nn.Module | None:
        """A module whose forward gives a loss of the weights; made from the weights at the start.

        It holds the backbone, not its parameters, and the weights at the start as frozen parameters: splitting replaces both.
        """
        return None

    def prepare(self, penalty: nn.Module, losses: Iterator[Tensor]) -> None:
        """Measure the start, once the heads are warmed up and before a checkpoint is loaded.

        Args:
            penalty: the module that `penalty` gave.
            losses: of general text, row by row, each a mean with its graph; without dropout.
        """

    def objective(self) -> Objective[Any, Any] | None:
        """What is trained beside the objectives, on general text; its `build` is given the backbone at the start."""
        return None

    def general_rows(self, batch_size: int) -> int:
        """Rows of general text in a batch of `objective`.

        Args:
            batch_size: rows of the corpus in a batch of the other objectives.
        """
        return batch_size

    def candidates(self, start: State, end: State) -> Iterator[tuple[float, State]]:
        """Weights to choose from afterwards, each with the share of `end` in it; none where `end` is the only choice."""
        return iter(())
