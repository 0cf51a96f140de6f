"""Twenty messages, a page and a PDF are documents; the scan is in the quarantine."""

import contextlib
import mailbox
from pathlib import Path

import pyarrow.parquet as pq

LETTERS = Path(__file__).parent / "data/mine/letters"


def check(out: Path, said: str) -> None:
    """Compare with what the standard library's mailbox finds."""
    written = {row["id"]: row["text"] for name in ("corpus", "heldout") for row in pq.read_table(out / f"{name}.parquet").to_pylist()}
    left = [row for row in pq.read_table(out / "quarantine.parquet").to_pylist() if row["table"] == "corpus"]
    assert [(row["id"], row["rule"]) for row in left] == [("scan.pdf", "unreadable")]
    assert "run OCR on it first" in left[0]["detail"]
    with contextlib.closing(mailbox.mbox(LETTERS / "inbox.mbox", create=False)) as box:
        wanted = {f"inbox.mbox#{number}" for number in range(1, len(box) + 1)}
    assert set(written) == wanted | {"page.html", "report.pdf"}
    assert written["inbox.mbox#2"].startswith("Störung 1\n\nDear all,\n\nThe ")
    assert "\nFrom what I know, " in written["inbox.mbox#2"]
    assert not any("example.org" in text or "html of" in text for text in written.values())
    assert written["page.html"] == "Opening hours\nThe office is open from nine to five, but not on holidays."
