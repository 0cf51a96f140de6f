"""The sections on models: results, pretraining, fine-tuning, probes, confusion, calibration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from html import escape

from acclimate.evaluation.metrics import METRICS
from acclimate.evaluation.report.charts import Dots, Interval, Series, dot_chart, heat_map, interval_chart, line_chart, reliability_chart
from acclimate.evaluation.report.facts import Facts, Json, Rows
from acclimate.evaluation.report.markup import Section, badge, details, figure, grid, note, table
from acclimate.evaluation.report.wording import count, mean_and_deviation, metric_name, number, p_value, percent, signed

ENCODERS = ("base", "adapted")
_DECISION_TONE = {"helps": "good", "hurts": "bad", "no difference shown": "plain"}
_MAX_CONFUSION_LABELS = 40


def results(facts: Facts) -> Section:
    """Every task: baseline, base, adapted, their difference."""
    rows = [_result_row(facts, task) for task in facts.tasks]
    interval = f"{percent(facts.confidence)} interval"
    body = table(["task", "verdict", "metric", "baseline", "base", "adapted", "difference", interval, "p"], rows, text_columns=3)
    body += note(_result_notes(facts))
    body += grid([_difference_figure(facts), *(_seed_figure(facts, task) for task in facts.tasks)])
    body += details("Every metric", _all_metrics(facts))
    return Section("results", "Did adaptation help?", body if rows else "")


def _result_row(facts: Facts, task: str) -> list[str]:
    found, compared = facts.metrics[task], facts.comparisons.get("tasks", {}).get(task, {})
    metric = found["metric"]
    cells = [number(found["baseline"]["test"][metric])]
    cells += [mean_and_deviation(found[encoder][metric]) if encoder in found else "\u2013" for encoder in ENCODERS]
    if difference := found.get("difference", {}).get(metric):
        interval = f"{signed(difference['low'])} to {signed(difference['high'])}"
        cells += [f"<b>{signed(difference['mean'])}</b>", interval, p_value(compared.get("p_holm", difference["p"]))]
    else:
        cells += ["\u2013"] * 3
    decision = compared.get("decision", "not compared")
    return [f"<b>{escape(task)}</b>", badge(decision, _DECISION_TONE.get(decision, "plain")), metric_name(metric), *cells]


def _result_notes(facts: Facts) -> str:
    compared = facts.comparisons.get("tasks", {})
    lines = [f"<b>{escape(task)}</b>: {escape(_verdict(compared[task]))}." for task in facts.tasks if task in compared]
    if method := facts.comparisons.get("method"):
        lines.append("Test rows; mean \u00b1 standard deviation over seeds.")
        lines.append(f"{escape(method[0].upper() + method[1:])}; {count(facts.comparisons['samples'])} resamples.")
    lines += [f"Baseline of {escape(task)}: {escape(card['method'])}." for task, card in facts.baselines.items() if task in facts.metrics]
    return "<br>".join(lines)


def _verdict(compared: Json) -> str:
    return str(compared["verdict"]).replace(compared["metric"], metric_name(compared["metric"]))


def _difference_figure(facts: Facts) -> str:
    intervals = []
    for task in facts.tasks:
        metric = facts.metrics[task]["metric"]
        if difference := facts.metrics[task].get("difference", {}).get(metric):
            intervals.append(Interval(f"{task}, {metric_name(metric)}", difference["mean"], difference["low"], difference["high"]))
    if not intervals:
        return ""
    return figure("Adapted minus base", interval_chart(intervals, x_label="difference on test rows"), "Grey: the interval holds zero.")


def _seed_figure(facts: Facts, task: str) -> str:
    found = facts.metrics[task]
    metric = found["metric"]
    rows = [Dots("baseline", [found["baseline"]["test"][metric]], "baseline")]
    rows += [Dots(encoder, list(found[encoder][metric]["seeds"].values()), encoder) for encoder in ENCODERS if encoder in found]
    seeds = max(len(row.values) for row in rows)
    return figure(f"{task}: {'each seed' if seeds > 1 else 'one seed'}", dot_chart(rows, x_label=f"{metric_name(metric)} on test rows"))


def _all_metrics(facts: Facts) -> str:
    rows = []
    for task, found in facts.metrics.items():
        for metric in next(names for names in METRICS.values() if found["metric"] in names):
            cells = [number(found["baseline"]["test"][metric])]
            cells += [mean_and_deviation(found[encoder][metric]) if encoder in found else "\u2013" for encoder in ENCODERS]
            difference = found.get("difference", {}).get(metric)
            cells += (
                [signed(difference["mean"]), f"{signed(difference['low'])} to {signed(difference['high'])}"]
                if difference
                else ["\u2013"] * 2
            )
            rows.append([escape(task), metric_name(metric), *cells])
    return table(["task", "metric", "baseline", "base", "adapted", "difference", "interval"], rows, text_columns=2)


def pretraining(facts: Facts) -> Section:
    """Loss curves, held-out losses before and after, and the choice of the share."""
    if not facts.pretraining:
        return Section("pretraining", "Pretraining", "")
    losses = {
        name: label
        for name, label in (("heldout_loss", "held-out domain text"), ("general_loss", "general text"))
        if name in facts.pretraining
    }
    rows = []
    for name, label in losses.items():
        found = facts.pretraining[name]
        rows.append(
            [label, *(number(found[which]) for which in ("base", "last", "adapted")), f"<b>{signed(found['adapted'] - found['base'])}</b>"]
        )
    body = (
        f"<p>{count(facts.pretraining['tokens'])} tokens of domain text. Loss in nats per masked token, the same masks for every model.</p>"
    )
    body += table(["loss on", "base", "after training", "adapted (kept share)", "adapted minus base"], rows)
    if "general_loss" not in losses:
        body += note("No general text was given, so forgetting was not measured.")
    body += note(_health_lines(facts.pretraining))
    body += grid([_pretraining_figure(facts, losses), _retention_figure(facts)])
    body += _retention_table(facts)
    return Section("pretraining", "Pretraining", body)


def _health_lines(pretraining: Json) -> str:
    """What happened on the way: spikes, steps taken back, an early end."""
    spikes, skipped, stopped = (pretraining.get(name) for name in ("spikes", "skipped_steps", "stopped_early_at"))
    at = ", ".join(map(str, (spikes or [])[:8]))
    lines = [f"{len(spikes)} loss spike{'' if len(spikes) == 1 else 's'}, at step {at}." if spikes else "No loss spike."]
    if skipped:
        lines.append(f"The updates of {len(skipped)} steps were taken back.")
    if stopped:
        lines.append(f"Stopped early after step {stopped}; the best weights so far were kept.")
    return " ".join(lines)


def _points(rows: Rows, x: str, y: str) -> tuple[list[float], list[float]]:
    filled = [(float(row[x]), float(row[y])) for row in rows if row.get(y)]
    return [first for first, _ in filled], [second for _, second in filled]


def _pretraining_figure(facts: Facts, losses: Json) -> str:
    series = [Series("training", *_points(facts.pretraining_history, "step", "train/loss"), "baseline", "thin")]
    tones = {"heldout_loss": "adapted", "general_loss": "base"}
    series += [
        Series(label, *_points(facts.pretraining_history, "step", name), tones[name], markers=True) for name, label in losses.items()
    ]
    if not any(each.x for each in series):
        return ""
    return figure("Masked-language-model loss", line_chart(series, x_label="optimizer step", y_label="nats per masked token"))


def _retention_figure(facts: Facts) -> str:
    candidates = facts.retention.get("candidates", [])
    if len(candidates) < 2:
        return ""
    shares, scores = [each["share"] for each in candidates], [each["score"] for each in candidates]
    series = [Series("candidates", shares, scores, "adapted", markers=True)]
    caption = f"Score: {escape(facts.retention['criterion'])}. Chosen: {facts.retention['chosen']:g}; 0 is the base model."
    return figure(
        "How much of the adapted weights to keep",
        line_chart(series, x_label="share of the adapted weights", y_label="score on dev"),
        caption,
    )


def _retention_table(facts: Facts) -> str:
    candidates = facts.retention.get("candidates", [])
    if not candidates:
        return ""
    keys = [key for key in ("heldout_loss", "general_loss") if key in candidates[0]]
    rows = []
    for each in candidates:
        chosen = each["share"] == facts.retention["chosen"]
        name = (
            f"<b>{each['share']:g}</b> {badge('chosen', 'good')}"
            if chosen
            else f"{each['share']:g}" + (" (base)" if each["share"] == 0 else "")
        )
        rows.append([name, number(each["score"]), *(number(each[key]) for key in keys)])
    heads = {"heldout_loss": "domain loss", "general_loss": "general loss"}
    return details("Every share that was tried", table(["share of adapted weights", "score on dev", *(heads[key] for key in keys)], rows))


def finetuning(facts: Facts) -> Section:
    """Training loss of every run."""
    config = facts.finetune
    figures = []
    for task in dict.fromkeys(run.task for run in facts.finetuned):
        series = [
            Series(run.encoder, *_points(run.history, "step", "train/loss"), escape(run.encoder), "thin")
            for run in facts.finetuned
            if run.task == task
        ]
        if any(each.x for each in series):
            figures.append(figure(task, line_chart(series, x_label="optimizer step", y_label="training loss")))
    epochs = f"{config.epochs:g} epoch{'' if config.epochs == 1 else 's'}"
    how = f"{epochs}, {config.rows_per_batch} rows a batch, learning rate {config.lr:g}"
    body = f"<p>Strategy <b>{escape(config.strategy)}</b>, {how}. One line a seed.</p>"
    return Section("finetuning", "Fine-tuning", body + grid(figures) + _gap_table(facts) if figures else "")


def _gap_table(facts: Facts) -> str:
    """Loss on the rows that were trained on beside that on rows that were not, mean over the seeds."""
    rows = []
    for task, encoder in dict.fromkeys((run.task, run.encoder) for run in facts.finetuned if run.fit):
        fits = [run.fit for run in facts.finetuned if (run.task, run.encoder) == (task, encoder) and run.fit]
        train, dev = (sum(fit[name] for fit in fits) / len(fits) for name in ("train_loss", "dev_loss"))
        rows.append([escape(task), escape(encoder), number(train), number(dev), f"<b>{signed(dev - train)}</b>"])
    if not rows:
        return ""
    head = table(["task", "encoder", "loss on training rows", "loss on dev rows", "gap"], rows, text_columns=2)
    return head + note(
        "Trained models, without dropout, per target. A wide gap means that rows were learnt by heart: "
        "fewer epochs, more dropout, or <code>finetune.health.patience</code> then help."
    )


def probes(facts: Facts) -> Section:
    """Score of a linear model on each layer's frozen features."""
    figures, rows = [], []
    for task, found in facts.probe.items():
        metric = found["metric"]
        series = []
        for encoder in ENCODERS:
            layers = [row for row in facts.probe_layers if (row["task"], row["encoder"], row["metric"]) == (task, encoder, metric)]
            series.append(Series(encoder, *_points(layers, "layer", "value"), encoder, markers=True))
            rows.append(
                [
                    escape(task),
                    encoder,
                    str(found[encoder]["best_layer"]),
                    number(found[encoder]["best"][metric]),
                    number(found[encoder]["last"][metric]),
                ]
            )
        if any(each.x for each in series):
            figures.append(figure(task, line_chart(series, x_label="layer (0: embeddings)", y_label=f"{metric_name(metric)} on test rows")))
    body = "<p>A linear model on frozen features: what the encoder knows before any fine-tuning.</p>" + grid(figures)
    body += table(["task", "encoder", "layer best on dev", "its test score", "last layer's test score"], rows, text_columns=2)
    return Section("probe", "Probe by layer", body if rows else "")


def confusion(facts: Facts) -> Section:
    """Who is taken for whom."""
    parts = []
    for task, rows in facts.confusion.items():
        counts = Counter((row["actual"], row["predicted"]) for row in rows)
        labels = _by_frequency(rows)
        run = facts.comparisons.get("tasks", {}).get(task, {}).get("confusion_of")
        parts.append(f"<h3>{escape(task)}</h3>")
        how = "Rows: actual label, most frequent first. Columns: predicted. Shade: share of the row"
        parts.append(note(f"{how}. Run {escape(str(run))}, the best on dev."))
        if len(labels) <= _MAX_CONFUSION_LABELS:
            parts.append(heat_map([[counts[actual, predicted] for predicted in labels] for actual in labels], labels))
        parts.append(_worst_pairs(counts))
    return Section("confusion", "Confusion", "".join(parts))


def _by_frequency(rows: Rows) -> list[str]:
    actual = Counter(row["actual"] for row in rows)
    everything = {row["predicted"] for row in rows} | set(actual)
    return sorted(everything, key=lambda label: (-actual[label], label))


def _worst_pairs(counts: Counter[tuple[str, str]]) -> str:
    actual = Counter[str]()
    for (label, _), value in counts.items():
        actual[label] += value
    wrong = [(pair, value) for pair, value in counts.most_common() if pair[0] != pair[1]][:6]
    if not wrong:
        return ""
    rows = [[escape(a), escape(b), count(value), percent(value / actual[a])] for (a, b), value in wrong]
    return table(["actual", "taken for", "rows", "of the actual label"], rows, text_columns=2)


def calibration(facts: Facts) -> Section:
    """Whether confidence means what it says."""
    figures = []
    for task, rows in facts.calibration.items():
        series = [
            Series(encoder, *_points([row for row in rows if row["encoder"] == encoder], "confidence", "accuracy"), encoder, markers=True)
            for encoder in _present(row["encoder"] for row in rows)
        ]
        errors = facts.metrics[task].get("calibration_error", {})
        said = ", ".join(f"{encoder} {number(errors[encoder])}" for encoder in _present(errors))
        figures.append(figure(task, reliability_chart(series), f"Expected calibration error: {said}. Below the dashed line: too sure."))
    return Section("calibration", "Calibration", grid(figures))


def _present(names: Iterable[str]) -> list[str]:
    found = set(names)
    return [encoder for encoder in ENCODERS if encoder in found]
