"""Turn corpus, held-out, general and other text into flat token ids, which are read as packed rows."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from acclimate import artifacts
from acclimate.data.options import TokenizeConfig
from acclimate.data.tokens.encoding import load_tokenizer
from acclimate.data.tokens.fertility import measure_fertility, sampled_batches
from acclimate.data.tokens.packing import INDEX
from acclimate.data.tokens.token_shards import SplitTokens, text_bytes, tokenize_splits, unknown_id
from acclimate.errors import DataError
from acclimate.runtime import require_disk
from acclimate.settings import Options
from stages.command import Out, StageContext, main

SPLITS = ("corpus", "heldout", "general", "other")
_NEEDED = ("corpus", "heldout")
_FERTILITY_CHARS, _BROKEN_WORDS = 4_000_000, 30


class Params(Options):
    """What this stage reads."""

    tokenize: TokenizeConfig


def run(params: Params, *, ingest: Path, encoder: Path, verdict: Path, out: Out, context: StageContext) -> None:
    """Write ids, document offsets and word starts of each split, and the corpus's unigram counts, which every encoder's heads go by."""
    parquets = {split: ingest / f"{split}.parquet" for split in SPLITS}
    require_disk(out.parent, 2 * sum(text_bytes(path) for path in parquets.values()))  # the ids, and the shards they come from
    workers = int(os.environ.get("OMP_NUM_THREADS", 0)) or len(os.sched_getaffinity(0))
    done = tokenize_splits(
        parquets,
        out,
        encoder=encoder,
        backend=params.tokenize.backend,
        min_document_tokens=params.tokenize.min_document_tokens,
        scratch=context.checkpoint_directory,
        workers=workers,
    )
    sequence_length = params.tokenize.sequence_length
    metrics: dict[str, Any] = {split: _metrics(tokens, encoder, sequence_length) for split, tokens in done.splits.items()}
    for split, values in metrics.items():
        if not values["rows"] and split in _NEEDED:
            raise DataError(f"{split}: {values['tokens']} tokens do not fill one row of tokenize.sequence_length = {sequence_length}")
    np.save(out / "unigram.npy", done.splits["corpus"].unigram)
    metrics["vocabulary"] = _vocabulary(parquets, encoder)
    artifacts.write_json(out / INDEX, {"sequence_length": sequence_length})
    artifacts.write_json(out / "metrics.json", metrics)
    context.record.update(backend=done.backend, fell_back=done.fell_back, workers=workers, shards=done.shards, shards_kept=done.shards_kept)
    context.final_metrics.update(
        {f"{split}/{name}": float(value) for split, values in metrics.items() for name, value in values.items() if split in SPLITS}
    )


def _vocabulary(parquets: dict[str, Path], encoder: Path) -> dict[str, Any]:
    """How the tokenizer fits domain and general text, measured on a sample of each."""
    tokenizer = load_tokenizer(encoder)
    found = {}
    for split, path in parquets.items():
        fertility = measure_fertility(sampled_batches(path, max_chars=_FERTILITY_CHARS), tokenizer)
        if fertility.words:
            found[split] = {
                "words": fertility.words,
                "tokens_per_word": fertility.tokens_per_word,
                "unknown_share": fertility.unknown_share,
                "split_share": fertility.split_share,
                "most_broken": [asdict(word) for word in fertility.broken[:_BROKEN_WORDS]],
            }
    return found


def _metrics(tokens: SplitTokens, encoder: Path, sequence_length: int) -> dict[str, Any]:
    tokenizer = load_tokenizer(encoder)
    unknown = unknown_id(tokenizer)
    specials = tokenizer.num_special_tokens_to_add(is_pair=False)
    rows, dropped = divmod(tokens.tokens, sequence_length)
    return {
        "documents": tokens.documents,
        "documents_too_short": tokens.documents_too_short,
        "tokens": tokens.tokens,
        "tokens_dropped": dropped,
        "rows": rows,
        "efficiency": rows * sequence_length / max(1, tokens.tokens),
        "unknown_share": float(tokens.unigram[unknown]) / tokens.tokens if unknown is not None and tokens.tokens else 0.0,
        "tokens_per_word": (tokens.tokens - specials * tokens.documents) / max(1, tokens.words),
    }


if __name__ == "__main__":
    main(run, Params)
