"""Rows of a labelled table on their way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from acclimate import kinds
from acclimate.data.leakage.comparison import duplicate_key
from acclimate.data.leakage.contamination import EvaluationText
from acclimate.data.leakage.pairs import pair_key
from acclimate.data.leakage.splits import Split
from acclimate.data.options import TaskConfig

SPLITS: tuple[Split, ...] = ("train", "dev", "test")


@dataclass
class Row:
    """One labelled row on its way."""

    id: str
    source: str
    number: int
    inputs: dict[str, Any]
    texts: list[str]
    label: Any
    group: str
    has_group: bool
    given_split: str | None
    time: float | None = None
    replaced: str = ""
    """Names the raw texts of a row in which personal data was replaced: two mails that differ by an address are no copies."""

    @property
    def text(self) -> str:
        """The text that stands for the row."""
        return self.texts[0]

    @property
    def key(self) -> str:
        """What a copy of this row shares, with its texts in their order."""
        return "\t".join([*map(duplicate_key, self.texts), self.replaced])


@dataclass
class LoadedTable:
    """A task's rows, read and parted, before what depends on other tables and before sampling."""

    name: str
    config: TaskConfig
    by_split: dict[Split, list[Row]]
    changed: Counter[str] = field(default_factory=Counter)
    """Texts that each cleaning rule changed."""
    personal: Counter[str] = field(default_factory=Counter)
    """Pieces of personal data by kind."""
    texts: dict[str, list[str]] = field(default_factory=dict)
    """What serving must do to a text."""

    @property
    def kind(self) -> kinds.Table:
        """How its kind reads a table."""
        return kinds.configured_table(self.config.kind, self.config.own)

    def key(self, row: Row) -> str:
        """What copies of a row share: of a pair, whichever text stands first."""
        return pair_key(row.texts) + row.replaced if self.kind.pair else row.key

    def compared_text(self, row: Row) -> str:
        """What near-copies of a row share much of: of a pair, whichever text stands first."""
        return "\n".join(sorted(row.texts, key=duplicate_key) if self.kind.pair else row.texts)

    @property
    def table(self) -> str:
        """Its name in the quarantine."""
        return f"tables/{self.name}"

    def evaluation_texts(self) -> Iterator[EvaluationText]:
        """Place, row id and text of every dev and test text, all of a row; the corpus must hold none of them."""
        for split in ("dev", "test"):
            for row in self.by_split[split]:
                for text in row.texts:
                    if text:
                        yield EvaluationText(f"{self.table}:{split}", row.id, text)
