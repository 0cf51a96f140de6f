"""Rows that leave, with where they were, why, and what they held."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

from acclimate.data.screening.quality import RULES
from acclimate.errors import DataError

_VALUE_CHARS = 200
_FLUSH_ROWS = 20_000
_RULES_SHOWN = 6
SCHEMA = pa.schema(
    [
        ("table", pa.string()),
        ("source", pa.string()),
        ("line", pa.int64()),
        ("id", pa.string()),
        ("rule", pa.string()),
        ("value", pa.string()),
        ("detail", pa.string()),
    ]
)
HELD_BACK = (
    "in_evaluation_set",
    "in_heldout_group",
    "contaminated",
    "near_duplicate_of_test",
    "near_duplicate_of_dev",
    "near_duplicate_of_heldout",
    "near_duplicate_of_corpus",
    "near_duplicate_of_general",
    "in_corpus",
    "in_general",
    "also_in_test",
    "also_in_dev",
    "weight",
    "label_map",
)
"""Rules that name no fault: a corpus made of the labelled table itself loses its dev and test texts, a fifth by default."""

SETTINGS = {
    "too_short": "ingest.min_chars",
    "other_language": "ingest.language",
    "contaminated": "ingest.decontamination",
    "near_duplicate": "ingest.duplicates",
    "weight": "the source's weight",
    **{rule.name: f"ingest.quality.{rule.threshold}" for rule in RULES},
}
"""The key of params.yaml that a rule goes by. A rule without one names a fault of the row itself, such as `duplicate`."""

Entry = tuple[str, str, int, str, str, str, str]
"""table, source, line, id, rule, value, detail."""


class Quarantine:
    """Writes rows that are dropped, and counts what was read and kept of each table.

    Args:
        path: the Parquet file that the rows go to, a block at a time; without it they are only counted.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.read: Counter[str] = Counter()
        self.kept: Counter[str] = Counter()
        self.not_sampled: Counter[str] = Counter()
        self.rest: dict[str, tuple[int, int]] = {}
        """Of a labelled table: training rows not sampled that were written beside it, and those with a label that train lacks."""
        self._rules: dict[str, Counter[str]] = {}
        self._pending: list[Entry] = []
        self._writer = pq.ParquetWriter(path, SCHEMA, compression="zstd") if path else None

    def __enter__(self) -> Quarantine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def add(self, table: str, source: str, line: int, row_id: str, rule: str, value: str, detail: str = "") -> None:
        """Record one row that leaves its table.

        Args:
            line: counted from 1; the row number in a format without lines.
            detail: what the rule found, such as the row that this one repeats.
        """
        self.extend([(table, source, line, row_id, rule, value, detail)])

    def extend(self, entries: Iterable[Entry]) -> None:
        """Record rows that leave."""
        for entry in entries:
            self._rules.setdefault(entry[0], Counter())[entry[4]] += 1
            if self._writer:
                self._pending.append((*entry[:5], entry[5][:_VALUE_CHARS], entry[6]))
        if len(self._pending) >= _FLUSH_ROWS:
            self._flush()

    def merge(self, file: Path) -> None:
        """Take over the rows of a quarantine file written elsewhere."""
        for batch in pq.ParquetFile(file).iter_batches():
            self.extend(zip(*(column.to_pylist() for column in batch.columns), strict=True))

    def move(self, source: str, target: str, rows: int) -> None:
        """Account for kept rows of one table that became rows of another."""
        for counts in (self.read, self.kept):
            counts[source] -= rows
            counts[target] += rows

    def count(self, table: str) -> Counter[str]:
        """How many rows of a table left, by rule."""
        return Counter(self._rules.get(table, {}))

    def check(self, max_share: float) -> None:
        """Every row is accounted for, and not too many left.

        Raises:
            DataError: the share of a table that left through a fault of its own is above `max_share`.
        """
        for table, read in self.read.items():
            rules = self.count(table)
            left = sum(rules.values())
            assert read == self.kept[table] + left + self.not_sampled[table], (
                f"{table}: {read} read, {self.kept[table]} kept, {left} quarantined"
            )
            faulty = left - sum(rules[rule] for rule in HELD_BACK)
            if faulty > max_share * read:
                named = self.describe(table, but=HELD_BACK)
                raise DataError(
                    f"{table}: {faulty} of {read} rows are quarantined ({named}); allowed by ingest.max_quarantine_share: {max_share:.1%}"
                )

    def describe(self, table: str, *, but: Collection[str] = ()) -> str:
        """The rules by which rows of a table left, the most frequent first, each with its count and the key that it goes by."""
        found = [(rule, count) for rule, count in self.count(table).most_common() if rule not in but]
        keys = [SETTINGS.get(rule) or SETTINGS.get(rule.partition("_of_")[0]) for rule, _ in found]
        shown = [f"{rule} {count}" + (f" by {key}" if key else "") for (rule, count), key in zip(found, keys, strict=True)]
        more = len(shown) - _RULES_SHOWN
        return ", ".join(shown[:_RULES_SHOWN] + ([f"and {more} more rules"] if more > 0 else [])) or "none"

    def account(self, table: str) -> str:
        """What became of the documents of a table, in one line; nothing where none was read."""
        if not self.read[table]:
            return ""
        return f"{table}: {self.read[table]} documents read, {self.kept[table]} kept; left: {self.describe(table)}"

    def metrics(self) -> dict[str, dict[str, int | dict[str, int]]]:
        """Counts of each table."""
        return {
            table: {
                "read": read,
                "kept": self.kept[table],
                "quarantined": sum(self.count(table).values()),
                "not_sampled": self.not_sampled[table],
                **dict(zip(("rest", "rest_of_unknown_label"), self.rest.get(table, ()), strict=False)),
                "rules": dict(sorted(self.count(table).items())),
            }
            for table, read in self.read.items()
        }

    def close(self) -> None:
        """Write what is pending and end the file."""
        if self._writer:
            self._flush()
            self._writer.close()
            self._writer = None

    def _flush(self) -> None:
        if self._writer and self._pending:
            columns = zip(*self._pending, strict=True)
            self._writer.write_table(pa.table([pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA))
        self._pending = []
