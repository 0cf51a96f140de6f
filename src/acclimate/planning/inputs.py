"""What a trial reads: the artifacts of the data stages where they were made by the present params.yaml, else stand-ins of their shape."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from acclimate import artifacts
from acclimate.config import Config
from acclimate.data.encoding import read_vocabulary
from acclimate.data.packing import INDEX
from acclimate.data.quarantine import Quarantine
from acclimate.data.tables import build_table
from acclimate.models.backbone import copy_backbone

# Outs of dvc.yaml; tests/unit/planning/test_inputs.py holds them together.
BACKBONE, INGEST, TOKENS = Path("artifacts/encoders/base"), Path("artifacts/ingest"), Path("artifacts/tokenize")
_DOCUMENT_TOKENS = 160
"""Mean length of the default corpus' documents; it decides how far attention reaches in made-up rows."""
_STEPS_OF_TEXT = 8


@dataclass
class Inputs:
    """Directories in the form that the stages write, and what of them is not what the stages will read."""

    encoder: Path
    tokens: Path
    tables: dict[str, Path]
    notes: list[str] = field(default_factory=list)


def find_inputs(config: Config, scratch: Path, *, project: Path = Path()) -> Inputs:
    """The stages' artifacts, or stand-ins under `scratch`: the backbone itself, tables from data/ as they are, token ids at random.

    Raises:
        ModelError: there is no backbone.
        DataError: a table cannot be read.
    """
    inputs = Inputs(project / BACKBONE, project / TOKENS, {})
    has_backbone = _is_of(inputs.encoder, {"model": config.model.model_dump(mode="json")})
    if not has_backbone:
        inputs.encoder = scratch / "backbone"
        inputs.encoder.mkdir()
        copy_backbone(config.model, inputs.encoder)
        if config.model.vocabulary.new_words:
            inputs.notes.append("without the words that model.vocabulary adds")
    if not (has_backbone and _is_of(inputs.tokens, {"tokenize": config.tokenize.model_dump(mode="json")})):
        inputs.tokens = scratch / "tokens"
        make_tokens(config, inputs.encoder, inputs.tokens)
        inputs.notes.append("token ids at random (the corpus is not tokenized yet)")
    read_from_data = [task for task in planned_tasks(config) if not _add_table(config, task, inputs, scratch, project)]
    if read_from_data:
        inputs.notes.append(f"tables as data/ has them (not ingested yet): {', '.join(read_from_data)}")
    return inputs


def planned_tasks(config: Config) -> list[str]:
    """The tasks whose tables training reads: those fine-tuned, and the one that the share of adapted weights is chosen on."""
    return list(dict.fromkeys([*config.runs.all_tasks, config.pretrain.retention.task]))


def _add_table(config: Config, task: str, inputs: Inputs, scratch: Path, project: Path) -> bool:
    """Whether the table is the ingested one."""
    wanted = {
        "seed": config.seed,
        "ingest": config.ingest.model_dump(mode="json"),
        "tasks": {task: config.tasks[task].model_dump(mode="json")},
    }
    is_ingested = _is_of(project / INGEST, wanted)
    inputs.tables[task] = (project / INGEST if is_ingested else scratch) / "tables" / task
    if not is_ingested:
        build_table(task, config.tasks[task], project / "data", inputs.tables[task], Quarantine(), seed=config.seed)
    return is_ingested


def _is_of(directory: Path, params: dict[str, Any]) -> bool:
    """Whether an artifact is there and was made by these values, which may be some of those it was made by."""
    manifest = directory / artifacts.MANIFEST
    return manifest.is_file() and _holds(artifacts.read_json(manifest)["params"], params)


def _holds(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict) and isinstance(found, dict):
        return all(key in found and _holds(found[key], value) for key, value in wanted.items())
    return bool(found == wanted)


def make_tokens(config: Config, encoder: Path, out: Path) -> None:
    """Random ids in rows of the configured length, as the stage `tokenize` writes them."""
    out.mkdir(parents=True)
    vocabulary = read_vocabulary(encoder)
    ordinary = np.setdiff1d(np.arange(vocabulary.size), vocabulary.special_ids)
    generator = np.random.default_rng(config.seed)
    pretrain, tokens_per_row = config.pretrain, config.tokenize.tokens_per_row
    heldout = pretrain.heldout_rows
    rows = {
        "corpus": _STEPS_OF_TEXT * pretrain.rows_per_batch * pretrain.accumulation,
        "heldout": heldout,
        "general": heldout if config.ingest.general else 0,
    }
    for split, count in rows.items():
        ids = generator.choice(ordinary, count * tokens_per_row).astype(np.uint16 if vocabulary.size <= 1 << 16 else np.uint32)
        offsets = np.append(np.arange(0, len(ids), _DOCUMENT_TOKENS), len(ids)).astype(np.int64)
        np.save(out / f"{split}.ids.npy", ids)
        np.save(out / f"{split}.document_offsets.npy", offsets)
        np.save(out / f"{split}.word_starts.npy", np.packbits(np.ones(len(ids), dtype=np.bool_)))
    np.save(out / "unigram.npy", np.ones(vocabulary.size, dtype=np.int64))
    artifacts.write_json(out / INDEX, {"tokens_per_row": tokens_per_row})
