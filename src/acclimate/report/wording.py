"""How numbers and metrics are written for people. Templates call each function as a filter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DASH = "\u2013"
"""Where there is no value."""

METRIC_NAMES: Mapping[str, str] = {  # in the order of the report
    "accuracy": "accuracy",
    "micro_f1": "micro-F1",
    "macro_f1": "macro-F1",
    "weighted_f1": "weighted F1",
    "mcc": "Matthews correlation",
    "subset_accuracy": "rows wholly right",
    "pearson": "Pearson",
    "spearman": "Spearman",
    "rmse": "RMSE",
    "entity_f1": "entity-F1",
    "entity_precision": "entity precision",
    "entity_recall": "entity recall",
    "token_accuracy": "token accuracy",
}


def metric_name(metric: str) -> str:
    """`macro_f1` as `macro-F1`."""
    return METRIC_NAMES.get(metric, metric.replace("_", " "))


def number(value: float, digits: int = 3) -> str:
    """A metric: fixed digits, a true minus sign."""
    return f"{value:.{digits}f}".replace("-", "\u2212")


def cell(value: Any) -> Any:
    """A table's cell: whole numbers with separators, others with three digits, the rest as it is."""
    if isinstance(value, float):
        return number(value)
    return count(value) if isinstance(value, int) else value


def signed(value: float, digits: int = 3) -> str:
    """A difference: always with its sign."""
    shown = round(value, digits) + 0.0  # no minus before a zero
    return f"{shown:+.{digits}f}".replace("-", "\u2212")


def count(value: float) -> str:
    """A whole number with separators."""
    return f"{round(value):,}"


def large(value: float) -> str:
    """A large number in millions: `6.3 M`."""
    return f"{value / 1e6:.1f} M" if value >= 1e6 else count(value)


def percent(share: float, digits: int = 0) -> str:
    """A share of one as a percentage."""
    return f"{100 * share:.{digits}f}\u202f%"


def megabytes(size: float) -> str:
    """Bytes as megabytes: `90.9`."""
    return f"{size / 1e6:.1f}"


def duration(seconds: float) -> str:
    """Seconds as `8.3 s`, `2 min 05 s` or `1 h 12 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def energy(joules: float) -> str:
    """Joules as `12.3 Wh` or `1.40 kWh`."""
    return f"{joules / 3600:.1f} Wh" if joules < 3.6e6 else f"{joules / 3.6e6:.2f} kWh"


def p_value(p: float) -> str:
    """`0.012`, or `< 0.001`."""
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def mean_and_deviation(summary: Mapping[str, Any]) -> str:
    """`0.412 ± 0.008`; without deviation where there is one seed."""
    return number(summary["mean"]) + (f" \u00b1 {number(summary['std'])}" if "std" in summary else "")


def interval(difference: Mapping[str, float]) -> str:
    """The ends of a difference's interval: `-0.002 to +0.031`."""
    return f"{signed(difference['low'])} to {signed(difference['high'])}"


def expectation_words(name: str) -> str:
    """`ExpectColumnValuesToBeUnique`, or its snake case, as words."""
    words = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name).replace("_", " ").split()
    return " ".join(words[1:] if words[:1] == ["expect"] else words)
