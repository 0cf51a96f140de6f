"""What the templates show that takes more than a look-up: the charts, and a few orders and means."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from acclimate.report import charts, wording, worth
from acclimate.report.charts import Dots, Interval, Series
from acclimate.report.facts import Facts, Json, Pretraining, Rows, Table
from acclimate.report.wording import metric_name

_TONES = ("first", "second", "third", "fourth")
CLUSTERS_SHOWN, MEMBERS_SHOWN = 8, 4
VARIANTS_ON_A_CARD = 3
DOUBTFUL_LABELS_SHOWN = 10
LABELS_SHOWN = 30
WORDS_SHOWN = 15
_MAX_CONFUSION_LABELS = 40
_WORST_PAIRS = 6


def tones(names: Sequence[str], reference: str) -> dict[str, str]:
    """A colour for each name; the reference has its own, and of the others every fifth begins again."""
    others = [name for name in names if name != reference]
    return {reference: "reference", **{name: _TONES[number % len(_TONES)] for number, name in enumerate(others)}}


def differences(facts: Facts) -> str:
    """Each difference to the reference with its interval; empty where nothing was compared."""
    intervals = [
        Interval(f"{task}, {variant}, {metric_name(found['metric'])}", difference["mean"], difference["low"], difference["high"])
        for task, found in facts.metrics.items()
        for variant in found["variants"]
        if (difference := facts.difference(task, variant, found["metric"]))
    ]
    return charts.interval_chart(intervals, x_label="difference on test rows") if intervals else ""


def scores_by_seed(facts: Facts, task: str) -> str:
    """The test score of each seed beside the baseline's."""
    found = facts.metrics[task]
    metric, tone = found["metric"], tones(list(found["variants"]), facts.reference)
    rows = [Dots("baseline", [value], "baseline") for name, value in found["baseline"]["test"].items() if name == metric]
    rows += [
        Dots(variant, list(scores[metric]["seeds"].values()), tone[variant])
        for variant, scores in found["variants"].items()
        if metric in scores
    ]
    return charts.dot_chart(rows, x_label=f"{metric_name(metric)} on test rows") if rows else ""


def pretraining_losses(found: Pretraining) -> str:
    """Training loss and held-out losses over steps."""
    curves = (
        *(("training", "train/loss", "baseline"), ("held-out domain text", "heldout_loss", "first")),
        ("general text", "general_loss", "reference"),
    )
    series = [_series(name, found.history, "step", column, tone) for name, column, tone in curves]
    return charts.line_chart(series, x_label="optimizer step", y_label="loss")


def retention_scores(found: Pretraining) -> str:
    """The score of each candidate."""
    rows = [
        Dots(each["name"], [each["score"]], "first" if each["name"] == found.retention["chosen"] else "reference")
        for each in found.candidates
        if each.get("score") is not None
    ]
    return charts.dot_chart(rows, x_label="score") if len(rows) > 1 else ""


def losses_over_steps(facts: Facts, loss: str) -> Rows:
    """A held-out loss over steps, a column for each encoder of `runs`; one that was not trained keeps that of its start."""
    found = {each.encoder: each for each in facts.pretraining}
    steps: dict[int, dict[str, Any]] = {}
    for encoder in facts.runs.encoders:
        for row in found[encoder].history if encoder in found else []:
            if row.get(loss) not in (None, ""):
                steps.setdefault(int(row["step"]), {})[encoder] = row[loss]
    untrained = {each.start: each.metrics[loss]["start"] for each in reversed(facts.pretraining) if loss in each.metrics}
    constant = {name: value for name, value in untrained.items() if name in facts.runs.encoders and name not in found}
    return [{"step": step, **constant, **steps[step]} for step in sorted(steps)]


def training_losses(facts: Facts, task: str) -> str:
    """Training loss over steps, one line for each fine-tuned run of a task."""
    tone = tones([variant.name for variant in facts.runs.variants], facts.reference)
    series = [_series(run.variant, run.history, "step", "train/loss", tone[run.variant]) for run in facts.finetuned if run.task == task]
    return charts.line_chart(series, x_label="optimizer step", y_label="training loss")


def fits(facts: Facts) -> list[tuple[str, str, float, float]]:
    """Task, variant, and mean loss on training and on dev rows over the seeds."""
    found: dict[tuple[str, str], list[Json]] = {}
    for run in facts.finetuned:
        if run.fit:
            found.setdefault((run.task, run.variant), []).append(run.fit)
    return [(*run, fmean(fit["train_loss"] for fit in fits), fmean(fit["dev_loss"] for fit in fits)) for run, fits in found.items()]


def probe_scores(facts: Facts, task: str) -> str:
    """The probe's test score at each layer."""
    metric = facts.probe[task]["metric"]
    rows = [row for row in facts.probe_layers if (row["task"], row["metric"]) == (task, metric)]
    lines = _by(rows, "encoder", facts.runs.reference.encoder, "layer", "value")
    return charts.line_chart(lines, x_label="layer (0: embeddings)", y_label=f"{metric_name(metric)} on test rows")


def scores_by_rows(facts: Facts, task: str) -> str:
    """The declared probe's score by labelled rows, a line for each encoder."""
    found = worth.curve(facts, task)
    lines = _lines(found, facts.runs.reference.encoder)
    return charts.line_chart(lines, x_label="labelled rows", y_label=metric_name(facts.curves[task]["metric"]), log_x=True)


def scores_by_tokens(facts: Facts, task: str) -> str:
    """The declared probe's score by tokens trained on, a line for each declared number of rows; empty below three encoders."""
    lines = _lines(worth.over_tokens(facts, task), "")
    return charts.line_chart(lines, x_label="tokens trained on", y_label=metric_name(facts.curves[task]["metric"]))


def _lines(found: Mapping[str, Sequence[tuple[float, float]]], reference: str) -> list[Series]:
    tone = tones(list(found), reference)
    return [Series(name, [x for x, _ in points], [y for _, y in points], tone[name], markers=True) for name, points in found.items()]


def confusion(rows: Rows) -> tuple[str, list[tuple[str, str, int, float]]]:
    """A matrix of actual against predicted labels, and the most frequent mistakes.

    Returns:
        The matrix, most frequent labels first, empty for more labels than a page shows. Of each mistake: actual label,
        predicted label, rows, and their share of the actual label's rows.
    """
    counts, actual = Counter((row["actual"], row["predicted"]) for row in rows), Counter(row["actual"] for row in rows)
    labels = sorted({row["predicted"] for row in rows} | set(actual), key=lambda label: (-actual[label], label))
    is_small = len(labels) <= _MAX_CONFUSION_LABELS
    matrix = charts.heat_map([[counts[row, column] for column in labels] for row in labels], labels) if is_small else ""
    wrong = [(*pair, number, number / actual[pair[0]]) for pair, number in counts.most_common() if pair[0] != pair[1]]
    return matrix, wrong[:_WORST_PAIRS]


def reliability(facts: Facts, task: str) -> str:
    """Accuracy by confidence."""
    return charts.reliability_chart(_by(facts.calibration[task], "variant", facts.reference, "confidence", "accuracy"))


def latencies(exported: Json, batch: str) -> str:
    """Milliseconds of each variant."""
    times = {name: each["latency_ms"][batch] for name, each in exported["variants"].items() if "latency_ms" in each}
    return charts.bar_table([(name, ms, f"{ms:.1f} ms") for name, ms in times.items()], highlight=exported["chosen"].get("variant"))


def sizes(exported: Json) -> str:
    """Bytes of each exported variant; empty where nothing was exported."""
    found = {name: each["bytes"] for name, each in exported["variants"].items() if "bytes" in each}
    rows = [(name, float(size), f"{wording.megabytes(size)} MB") for name, size in found.items()]
    return charts.bar_table(rows, highlight=exported["chosen"].get("variant"))


def label_counts(table: Table) -> str:
    """The most frequent labels; empty for a table without any."""
    return charts.bar_table([(name, float(value), wording.count(value)) for name, value in list(table.labels.items())[:LABELS_SHOWN]])


def wall_times(facts: Facts) -> str:
    """Wall time of each stage."""
    return charts.bar_table([(record["stage"], float(record["wall_s"]), wording.duration(record["wall_s"])) for record in facts.records])


def nested(values: Mapping[str, Any], name: str = "") -> list[tuple[str, str, int]]:
    """Counts below two keys, without zeros: outer key, inner key, count. With a name, the counts lie below it."""
    return [
        (outer, inner, number) for outer, found in values.items() for inner, number in (found[name] if name else found).items() if number
    ]


def _series(name: str, rows: Rows, x: str, y: str, tone: str) -> Series:
    """The rows that have a value; training losses are many, so they are a thin line without markers."""
    points = [(float(row[x]), float(row[y])) for row in rows if row.get(y) not in (None, "")]
    is_thin = y == "train/loss"
    return Series(name, [x for x, _ in points], [y for _, y in points], tone, "thin" if is_thin else "", markers=not is_thin)


def _by(rows: Rows, column: str, reference: str, x: str, y: str) -> list[Series]:
    """A line for each value of a column, in the order of the rows."""
    names = list(dict.fromkeys(row[column] for row in rows))
    tone = tones(names, reference)
    return [_series(name, [row for row in rows if row[column] == name], x, y, tone[name]) for name in names]
