"""What the anchors found: kept as JSON while they run, and put into a table."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.equivalence import welch_equivalence

MTEB = "MTEB, the same weights"
NOT_COMPARABLE = "not comparable: another model of five times the size"
MARGIN = 0.02
"""Of accuracy and F1, within which two ways to fine-tune count as equivalent."""
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Line:
    """One row of the table."""

    anchor: str
    published: str
    ours: str
    allowed: str
    met: str
    seconds: float
    """Of processor time, ours."""


@dataclass
class Results:
    """What was found so far; written after every step."""

    path: Path
    found: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def at(cls, path: Path) -> Results:
        return cls(path, json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {})

    def put(self, name: str, value: Any) -> None:
        self.found[name] = value
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps(self.found, indent=1) + "\n", encoding="utf-8")
        partial.replace(self.path)


def frozen_lines(name: str, found: dict[str, Any]) -> list[Line]:
    """Base beside what is published; each other encoder beside the base."""
    lines = []
    for metric, (published, allowed) in found["published"].items():
        for encoder, measured in found["encoders"].items():
            if "after_minus_base" not in measured:
                met = "yes" if abs(measured[metric] - published) <= allowed else "no"
                shown = f"{published:.4f} ({MTEB})"
                lines.append(Line(f"{name}, {metric}", shown, f"{measured[metric]:.4f}", f"{allowed:g}", met, measured["processor_s"]))
                continue
            difference = measured["after_minus_base"][metric]
            interval = f"{difference['mean']:+.4f} ({CONFIDENCE:.0%} interval {difference['low']:+.4f} to {difference['high']:+.4f})"
            lines.append(
                Line(f"{name}, {metric}", "base", f"{encoder}: {measured[metric]:.4f}, {interval}", "", "", measured["processor_s"])
            )
    return lines


def values(found: dict[str, Any], side: str, metric: str) -> list[float]:
    """A metric by seed."""
    return [run[metric] for _, run in sorted(found["runs"][side].items(), key=lambda item: int(item[0]))]


def equivalence_lines(name: str, found: dict[str, Any]) -> list[Line]:
    """Ours beside Trainer."""
    lines = []
    for metric in ("accuracy", "f1"):
        ours, theirs = (values(found, side, f"test_{metric}") for side in ("ours", "trainer"))
        if min(len(ours), len(theirs)) < 2:
            continue
        tested = welch_equivalence(ours, theirs, margin=MARGIN)
        seconds = sum(values(found, "ours", "processor_s"))
        shown = f"{_spread(ours)}; {tested}"
        met = "yes" if tested.equivalent else "no"
        lines.append(
            Line(f"{name}, test {metric}, {len(ours)} seeds", f"{_spread(theirs)} (Trainer, here)", shown, f"{MARGIN:g}", met, seconds)
        )
    return lines


def literature_lines(name: str, found: dict[str, Any], metric: str, published: str) -> list[Line]:
    """Ours beside what others report of a larger model."""
    ours = values(found, "ours", metric)
    shown = f"{name}, test {'micro-F1' if metric.endswith('accuracy') else 'macro-F1'}, {len(ours)} seed{'s' * (len(ours) > 1)}"
    return [Line(shown, published, _spread(ours), "", NOT_COMPARABLE, sum(values(found, "ours", "processor_s")))]


def _spread(found: Sequence[float]) -> str:
    return f"{statistics.mean(found):.4f}" + (f" ± {statistics.stdev(found):.4f}" if len(found) > 1 else "")


def table(lines: Sequence[Line]) -> str:
    """Markdown."""
    head = ("anchor", "published", "ours", "allowed difference", "met", "processor seconds")
    rows = [(each.anchor, each.published, each.ours, each.allowed, each.met, f"{each.seconds:.0f}") for each in lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows))
