"""Turn corpus, held-out and general text into packed rows of token ids."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from acclimate import artifacts
from acclimate.config import Section, TokenizeConfig
from acclimate.data.encoding import load_tokenizer
from acclimate.data.packing import pack, tokenize_stream
from acclimate.errors import DataError
from acclimate.runtime import require_disk
from stages.command import Out, StageContext, main


class Params(Section):
    """What this stage reads."""

    tokenize: TokenizeConfig


def run(params: Params, *, ingest: Path, encoder: Path, verdict: Path, out: Out, context: StageContext) -> None:
    """Write ids, document numbers and word starts of each split, and the corpus's unigram counts."""
    os.environ["TOKENIZERS_PARALLELISM"] = "true"  # nothing forks here, and a batch splits well over the cores
    tokenizer = load_tokenizer(encoder)
    vocabulary_size = tokenizer.get_vocab_size()
    unknown = tokenizer.token_to_id("[UNK]")
    specials = tokenizer.num_special_tokens_to_add(is_pair=False)
    metrics: dict[str, Any] = {}
    require_disk(out.parent, 4 * (ingest / "corpus.parquet").stat().st_size)
    for split in ("corpus", "heldout", "general"):
        texts = pq.read_table(ingest / f"{split}.parquet", columns=["text"])["text"].to_pylist()
        stream = tokenize_stream(tokenizer, texts, min_document_tokens=params.tokenize.min_document_tokens)
        packed = pack(stream, tokens_per_row=params.tokenize.tokens_per_row, vocabulary_size=vocabulary_size)
        if not len(packed.ids_RT) and split != "general":
            raise DataError(
                f"{split}: {len(stream.ids)} tokens do not fill one row of tokenize.tokens_per_row = {params.tokenize.tokens_per_row}"
            )
        np.save(out / f"{split}.ids.npy", packed.ids_RT)
        np.save(out / f"{split}.segments.npy", packed.segments_RT)
        np.save(out / f"{split}.word_starts.npy", packed.word_starts_RT)
        metrics[split] = {
            "documents": stream.num_documents,
            "documents_too_short": stream.num_too_short,
            "tokens": len(stream.ids),
            "tokens_dropped": packed.dropped_tokens,
            "rows": len(packed.ids_RT),
            "efficiency": packed.ids_RT.size / max(1, len(stream.ids)),
            "unknown_share": float(np.mean(stream.ids == unknown)) if unknown is not None and len(stream.ids) else 0.0,
            "tokens_per_word": (len(stream.ids) - specials * stream.num_documents) / max(1, stream.num_words),
        }
        if split == "corpus":
            np.save(out / "unigram.npy", np.bincount(stream.ids, minlength=vocabulary_size).astype(np.int64))
    artifacts.write_json(out / "metrics.json", metrics)
    context.final_metrics.update({f"{split}/{name}": float(value) for split, values in metrics.items() for name, value in values.items()})


if __name__ == "__main__":
    main(run, Params)
