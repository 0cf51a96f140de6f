"""Every component made small: an objective on a tiny backbone, a fine-tuning with a strategy, a term or a penalty.

`python -m tests.contract.made ENCODERS OUT` is one of several processes: it computes each component's gradients and saves them.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from acclimate import kinds, plugins
from acclimate.backbones.loading import load_backbone
from acclimate.data.labelled import LabelledSplit
from acclimate.data.tokens.encoding import load_tokenizer, read_vocabulary
from acclimate.data.tokens.packing import pack
from acclimate.protocols import Batch, Documents, Draw, Facts, Group, Rates, State, Trained
from acclimate.training.distributed import World, join_world, leave_world, sharded_copy, whole
from acclimate.training.finetuning import FineTuned, task_stream
from acclimate.training.mixture import Mixture
from acclimate.training.options import RecipeConfig
from acclimate.training.orders import Shuffled
from acclimate.training.precision import Precision
from acclimate.training.step import StepRunner
from acclimate.training.streams import Stream, Streams, source_of
from acclimate.training.task_model import TaskModel, TaskSpec

FP32 = Precision("fp32", "cpu")
RATES = Rates(1e-3, 1e-2, 0.01)
SEED, TOKENS = 3, 24
BATCH_SIZE = 4


@dataclass
class Made:
    """Something to train, and its batches."""

    trained: Trained[Any]
    streams: Streams

    def groups(self, trained: Trained[Any]) -> list[Group]:
        return trained.groups(RATES)


def objective(name: str, encoders: Path, *, steps: int = 3, retention: dict[str, Any] | None = None) -> Made:
    """An objective on the first tiny backbone of a shape that it fits."""
    component = plugins.configure("objectives", name, {}, where=name)
    directory = encoders / component.shapes[0]
    torch.manual_seed(SEED)
    backbone = load_backbone(directory)
    generator = np.random.default_rng(4)
    lengths = generator.integers(12, 40, 20)
    ids = generator.integers(10, 400, int(lengths.sum())).astype(np.uint16)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    bits = np.packbits(generator.random(len(ids)) < 0.6)
    text = pack(ids, starts, sequence_length=TOKENS, word_start_bits=bits)
    facts = Facts(
        read_vocabulary(directory),
        backbone.pad_id,
        np.bincount(ids, minlength=backbone.vocabulary_size),
        dict,
        partial(source_of, Documents, text),
    )
    kept = {each: plugins.configure("retention", each, options, where=each) for each, options in (retention or {}).items()}
    source = source_of(component.view, text)
    for each in kept.values():
        source = each.source(source, source_of(component.view, text))
    member = component.build(backbone, facts, torch.Generator().manual_seed(SEED))
    penalties = {each: held for each, part in kept.items() if (held := part.penalty(backbone)) is not None}
    members, streams = {name: member}, list[Stream[Any, Any]]()
    for each, part in kept.items():
        if (beside := part.objective()) is not None:
            members[each] = beside.build(backbone, facts, torch.Generator().manual_seed(SEED))
            order = Shuffled(len(source), part.general_rows(BATCH_SIZE), SEED)
            make_batch = partial(_batch_of, beside, facts)
            streams.append(Stream(each, source_of(beside.view, text), make_batch, order, SEED, 1, beside.divisible))
    trained = Mixture(backbone, members, dict.fromkeys(members, 1.0), penalties)
    for each, held in penalties.items():
        kept[each].prepare(held, _losses_of_rows(trained, component, source, facts))
    stream = Stream(
        name,
        source,
        lambda view, draw: component.batch(view, facts, draw),
        Shuffled(len(source), BATCH_SIZE, SEED),
        SEED,
        1,
        component.divisible,
    )
    return Made(trained, Streams(steps, [stream, *streams]))


def _batch_of(component: Any, facts: Facts, view: Any, draw: Draw) -> Batch:
    batch: Batch = component.batch(view, facts, draw)
    return batch


def _losses_of_rows(trained: Mixture, component: Any, source: Any, facts: Facts) -> Iterator[Tensor]:
    trained.eval()
    for row in range(4):
        draw = Draw(SEED, "rows", row)
        batch = component.batch(source.view(np.array([row]), draw), facts, draw)
        yield torch.stack(list(trained(batch, next(iter(trained.members))).values())).sum()


def fine_tuning(
    encoders: Path,
    *,
    kind: str = "classification",
    strategy: str = "full",
    term: str | None = None,
    retention: str | None = None,
    dropout: float = 0.0,
    steps: int = 3,
) -> Made:
    """A strategy on a tiny encoder and the kind's examples."""
    torch.manual_seed(SEED)
    backbone = load_backbone(encoders / "encoder", dropout=dropout)
    component = plugins.configure("strategies", strategy, {}, where=strategy)
    examples, model_part = examples_of(kind), kinds.model(kind)
    table = kinds.configured_table(kind, examples.OPTIONS)
    spec = TaskSpec(
        name="made",
        kind=kind,
        labels=examples.LABEL_LIST,
        pair=table.pair,
        metric="m",
        pooling="mean",
        max_length=TOKENS,
        encoder="tiny",
        recipe=strategy,
        seed=SEED,
        strategy={strategy: component.model_dump(mode="json")},
        hidden_size=backbone.width,
        num_outputs=model_part.num_outputs(examples.LABEL_LIST),
        options=table.carried,
    )
    model = TaskModel(backbone, spec, dropout=dropout)
    component.apply(model, torch.Generator().manual_seed(SEED))
    terms = {} if term is None else {term: (plugins.configure("terms", term, {}, where=term), 1.0)}
    held = None if retention is None else plugins.configure("retention", retention, {}, where=retention).penalty(backbone)
    trained = FineTuned(model, component, terms, {} if held is None else {retention: held})  # type: ignore[dict-item]
    config = RecipeConfig.model_construct(batch_size=BATCH_SIZE, accumulation=1)
    stream = task_stream(model, rows_of(spec, encoders / "encoder"), config, seed=SEED, terms=trained.terms)
    return Made(trained, Streams(steps, [stream]))


def examples_of(kind: str) -> ModuleType:
    """INPUTS, LABELS, LABEL_LIST and OPTIONS of a kind, from a file of its own."""
    return importlib.import_module(f"tests.contract.kind_examples.{kind}")


def rows_of(spec: TaskSpec, encoder: Path) -> LabelledSplit:
    """The kind's examples twice, encoded."""
    examples = examples_of(spec.kind)
    inputs, labels = examples.INPUTS * 2, examples.LABELS * 2
    encoded = kinds.model(spec.kind).encode(inputs, load_tokenizer(encoder), max_length=TOKENS, options=spec.options)
    return LabelledSplit([str(row) for row in range(len(inputs))], labels, encoded)


def gradients(made: Made, world: World, *, micro_batch_size: int | None = None) -> State:
    """What the first step's gradients are, before clipping."""
    trained = sharded_copy(made.trained, world)
    trained.train()
    groups = made.groups(trained)
    found: dict[str, Tensor] = {}
    parameters = [parameter for group in groups for parameter in group.parameters]
    optimizer = torch.optim.SGD(parameters, lr=0.0)
    config = type("Config", (), {"seed": SEED, "clip_norm": 1e9, "label": "made"})()
    runner = StepRunner(
        trained, groups, optimizer, FP32.grad_scaler(), FP32, world, config, steps=made.streams.steps, micro_batch_size=micro_batch_size
    )

    def keep(step: int, loss: Callable[[], float]) -> bool:
        for name, parameter in trained.named_parameters():
            if parameter.grad is not None:
                found[name] = whole(parameter.grad).detach().clone()
        return False

    runner.run(0, made.streams.window(0), before_update=keep)
    return found


CASES: dict[str, Callable[[Path], Made]] = {
    **{f"objectives/{name}": partial(objective, name) for name in plugins.names("objectives")},
    **{f"strategies/{name}": partial(fine_tuning, strategy=name) for name in plugins.names("strategies")},
    **{f"terms/{name}": partial(fine_tuning, term=name) for name in plugins.names("terms")},
    **{
        f"retention/{name}": partial(fine_tuning, retention=name)
        for name in plugins.names("retention")
        if plugins.load("retention", name).in_finetuning
    },
    **{f"retention/{name} in pretraining": partial(objective, "mlm", retention={name: {}}) for name in plugins.names("retention")},
    **{f"tasks/{name}": partial(fine_tuning, kind=name) for name in plugins.names("tasks")},
}


def main() -> None:
    """The gradients of every case that can be parted, under both ways of several processes."""
    encoders, out = Path(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    found: dict[str, State] = {}
    for sharding in ("ddp", "fsdp"):
        world = join_world(torch.device("cpu"), sharding=sharding, timeout_s=60.0)
        for name, make in CASES.items():
            made = make(encoders)
            if all(stream.divisible for stream in made.streams.streams):
                found[f"{name}-{sharding}"] = gradients(made, world)
    if world.is_main:
        torch.save(found, out)
    leave_world()


def write_tiny_t5(directory: Path) -> None:
    """A T5 of two layers a side with a vocabulary of 512 words, eight of them sentinels."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import T5Config, T5ForConditionalGeneration

    directory.mkdir(parents=True)
    words = ["<pad>", "</s>", "<unk>", *(f"word{number}" for number in range(501)), *(f"<extra_id_{number}>" for number in range(8))]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.add_special_tokens([word for word in words if word.startswith("<")])
    tokenizer.save(str(directory / "tokenizer.json"))
    config = T5Config(
        vocab_size=512, d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2, decoder_start_token_id=0, pad_token_id=0, eos_token_id=1
    )
    torch.manual_seed(0)
    model = T5ForConditionalGeneration(config)
    model.save_pretrained(directory, safe_serialization=True)
    settings = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    (directory / "config.json").write_text(json.dumps(settings), encoding="utf-8")


if __name__ == "__main__":
    main()
