"""What `acclimate plan` predicted beside what the stages took. Only stages whose records hold both."""

from __future__ import annotations

from html import escape

from acclimate.evaluation.report.facts import Facts, Json
from acclimate.evaluation.report.markup import figure, note, table
from acclimate.evaluation.report.wording import count, duration, number

_HEAD = ("stage", "time planned", "taken", "planned / taken", "memory planned, MB", "used", "planned / used")
_NOTE = "Up to 15 % off is what a plan is worth; a stage that was stopped and gone on with, or stopped early, has no ratio."


def plan_against_fact(facts: Facts) -> str:
    """A table as HTML; empty where nothing was planned."""
    rows = [_row(record) for record in facts.records if "predicted_wall_s" in record]
    return figure("Plan against fact", table(_HEAD, rows)) + note(_NOTE) if rows else ""


def _row(record: Json) -> list[str]:
    name, predicted_mb, used_mb = "peak_rss_mb", record.get("predicted_peak_rss_mb", 0.0), record["peak_rss_mb"]
    if "predicted_memory_mb" in record and "memory_mb" in record:
        name, predicted_mb, used_mb = "memory_mb", record["predicted_memory_mb"], record["memory_mb"]
    return [
        escape(record["stage"]) + (" (GPU memory)" if name == "memory_mb" else ""),
        duration(record["predicted_wall_s"]),
        duration(record["wall_s"]),
        _ratio(record["predicted_wall_s"], record["wall_s"], record),
        count(predicted_mb),
        count(used_mb),
        _ratio(predicted_mb, used_mb, record),
    ]


def _ratio(predicted: float, fact: float, record: Json) -> str:
    """Left out where the stage was not run from its beginning to its planned end in one go."""
    is_whole = not record.get("goes_on") and not record.get("resumed_from") and record.get("stopped_early_at") is None
    return number(predicted / fact, 2) if is_whole and fact else "\u2013"
