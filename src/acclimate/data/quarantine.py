"""Rows that leave, with where they were, why, and what they held."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from acclimate.errors import DataError

_VALUE_CHARS = 200
HELD_BACK = ("in_evaluation_set", "in_heldout_group")
"""Rules that name no fault: a corpus made of the labelled table itself loses its dev and test texts, a fifth by default."""


@dataclass
class Quarantine:
    """Collects rows that are dropped, and counts what was read and kept of each table."""

    rows: dict[str, list[str | int]] = field(
        default_factory=lambda: {name: [] for name in ("table", "source", "row", "id", "rule", "value")}
    )
    read: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    not_sampled: Counter[str] = field(default_factory=Counter)

    def add(self, table: str, source: str, row: int, row_id: str, rule: str, value: str) -> None:
        """Record one row (counted from 1 in its file) that leaves its table."""
        items: tuple[str | int, ...] = (table, source, row, row_id, rule, value[:_VALUE_CHARS])
        for name, item in zip(self.rows, items, strict=True):
            self.rows[name].append(item)

    def move(self, source: str, target: str, rows: int) -> None:
        """Account for kept rows of one table that became rows of another."""
        for counts in (self.read, self.kept):
            counts[source] -= rows
            counts[target] += rows

    def count(self, table: str) -> Counter[str]:
        """How many rows of a table left, by rule."""
        return Counter(str(rule) for name, rule in zip(self.rows["table"], self.rows["rule"], strict=True) if name == table)

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
                named = ", ".join(f"{rule} {count}" for rule, count in rules.most_common() if rule not in HELD_BACK)
                raise DataError(
                    f"{table}: {faulty} of {read} rows are quarantined ({named}); allowed by ingest.max_quarantine_share: {max_share:.1%}"
                )

    def metrics(self) -> dict[str, dict[str, int | dict[str, int]]]:
        """Counts of each table."""
        return {
            table: {
                "read": read,
                "kept": self.kept[table],
                "quarantined": sum(self.count(table).values()),
                "not_sampled": self.not_sampled[table],
                "rules": dict(sorted(self.count(table).items())),
            }
            for table, read in self.read.items()
        }

    def write(self, path: Path) -> None:
        """Write the table of rows that left."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = pa.schema([(name, pa.int64() if name == "row" else pa.string()) for name in self.rows])
        pq.write_table(pa.table(self.rows, schema=schema), path)
