"""Tags of Office go and every entity is its sign."""

from pathlib import Path

import pyarrow.parquet as pq


def check(out: Path, said: str) -> None:
    texts = [text for name in ("corpus", "heldout") for text in pq.read_table(out / f"{name}.parquet")["text"].to_pylist()]
    assert len(texts) == 36
    for text in texts:
        assert text.startswith("Guten Tag,\n")
        assert "schöne Grüße, 25€ … déjà vu\u2019s" in text
        assert not set("<>&") & set(text)
        assert "MsoNormal" not in text
