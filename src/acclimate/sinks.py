"""Where metrics go. A sink is passed in; nothing looks for a tracker globally."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from acclimate import artifacts


class Sink(Protocol):
    """Receives host values, already averaged, at a step."""

    def log(self, step: int, metrics: Mapping[str, float], *, timing: Mapping[str, float] | None = None) -> None:
        """Record values at a step.

        Args:
            metrics: values that two equal runs share, such as `train/loss`.
            timing: values that differ between equal runs, such as `tokens_per_s`; never written into a stage's out.
        """


class MemorySink:
    """Keeps rows in a list, for reports and tests."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def log(self, step: int, metrics: Mapping[str, float], *, timing: Mapping[str, float] | None = None) -> None:
        """Append one row of metrics; timing is dropped."""
        self.rows.append({"step": step, **metrics})

    def write_csv(self, path: Path) -> None:
        """Write the rows; columns in order of first appearance, a missing value stays empty."""
        artifacts.write_csv(path, list(dict.fromkeys(key for row in self.rows for key in row)) or ["step"], self.rows)

    def write_series(self, path: Path, columns: Mapping[str, str]) -> None:
        """Write the rows that hold any of some metrics, under other names: a plot by DVC takes an empty cell for 0.

        Args:
            columns: metric to the name of its column.
        """
        rows = [
            {"step": row["step"], **{name: row[metric] for metric, name in columns.items() if metric in row}}
            for row in self.rows
            if any(metric in row for metric in columns)
        ]
        artifacts.write_csv(path, ["step", *(name for name in columns.values() if any(name in row for row in rows))], rows)


class TeeSink:
    """Passes each record on to several sinks."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = tuple(sinks)

    def log(self, step: int, metrics: Mapping[str, float], *, timing: Mapping[str, float] | None = None) -> None:
        """Record in every sink, in order."""
        for sink in self._sinks:
            sink.log(step, metrics, timing=timing)
