"""The report in about a dozen lines of plain text, none wider than 100 columns."""

from __future__ import annotations

import textwrap

from acclimate.evaluation.report.facts import Facts, Json
from acclimate.evaluation.report.wording import count, duration, large, metric_name, p_value, percent

COLUMNS = 100
_INDENT = 11


def render(facts: Facts) -> str:
    """Lines of `name  text`, each number from the artifacts; what was not made has no line."""
    lines = [facts.title, *_data(facts), *_pretraining(facts)]
    for task in facts.tasks:
        lines += _task(facts, task)
    lines += [*_probe(facts), *_deployment(facts), *_checks(facts), *_time(facts)]
    return _ascii("\n".join(lines)) + "\n"


def _entry(name: str, text: str) -> list[str]:
    """An entry, wrapped under itself; a name too long for its column has a line of its own."""
    head = [name] if len(name) > _INDENT - 2 else []
    first = " " * _INDENT if head else name.ljust(_INDENT)
    return [*head, *textwrap.wrap(text, COLUMNS, initial_indent=first, subsequent_indent=" " * _INDENT, break_long_words=False)]


def _ascii(text: str) -> str:
    """Signs that every terminal shows."""
    for sign, plain in (("\u2212", "-"), ("\u202f", " "), ("\u00b1", "+-"), ("\u2192", "->"), ("\u2013", "-")):
        text = text.replace(sign, plain)
    return text


def _data(facts: Facts) -> list[str]:
    corpus = facts.tokenized.get("corpus", {})
    parts = [f"{count(corpus['documents'])} documents, {large(corpus['tokens'])} tokens"] if corpus.get("documents") else []
    parts += [
        f"{task} {'/'.join(count(each.rows.get(split, 0)) for split in ('train', 'dev', 'test'))} rows"
        for task, each in facts.tables.items()
    ]
    quarantined = sum(found.get("quarantined", 0) for found in facts.ingested.values())
    return _entry("data", "; ".join([*parts, f"{count(quarantined)} quarantined (artifacts/ingest/quarantine.parquet)"])) if parts else []


def _pretraining(facts: Facts) -> list[str]:
    found = facts.pretraining
    if not found:
        return []
    places = {"heldout_loss": "domain", "general_loss": "general"}
    losses = [f"{place} {found[name]['base']:.2f} -> {found[name]['adapted']:.2f}" for name, place in places.items() if name in found]
    return _entry(
        "pretrain", f"{large(found['tokens'])} tokens; held-out loss {', '.join(losses)}; {percent(found['share'])} of the new weights kept"
    )


def _task(facts: Facts, task: str) -> list[str]:
    found, compared = facts.metrics[task], facts.comparisons.get("tasks", {}).get(task, {})
    metric = found["metric"]
    parts = [f"baseline {found['baseline']['test'][metric]:.3f}"]
    for encoder in ("base", "adapted"):
        if encoder in found:
            deviation = f" +- {found[encoder][metric]['std']:.3f}" if "std" in found[encoder][metric] else ""
            parts.append(f"{encoder} {found[encoder][metric]['mean']:.3f}{deviation}")
    seeds = max(len(found[encoder][metric]["seeds"]) for encoder in ("base", "adapted") if encoder in found)
    lines = _entry(task, f"{metric_name(metric)}: {', '.join(parts)} ({seeds} seed{'s' if seeds > 1 else ''})")
    if difference := found.get("difference", {}).get(metric):
        decision = compared.get("decision", "")
        said = {"helps": "adaptation helps", "hurts": "adaptation hurts"}.get(decision, decision)
        interval = f"{percent(facts.confidence)} interval {difference['low']:+.3f} to {difference['high']:+.3f}"
        p = f"p {p_value(compared.get('p_holm', difference['p']))}"
        after_holm = " after Holm" if "p_holm" in compared and len(facts.comparisons["tasks"]) > 1 else ""
        lines += _entry("", f"{said}: {difference['mean']:+.3f}, {interval}, {p}{after_holm}")
    return lines


def _probe(facts: Facts) -> list[str]:
    parts = []
    for task, found in facts.probe.items():
        metric = found["metric"]
        scores = ", ".join(f"{name} {found[name]['best'][metric]:.3f} (layer {found[name]['best_layer']})" for name in ("base", "adapted"))
        parts.append(f"{task} {metric_name(metric)} on frozen features: {scores}")
    return _entry("probe", "; ".join(parts)) if parts else []


def _deployment(facts: Facts) -> list[str]:
    lines = []
    for task, found in facts.exports.items():
        run = f" from {found['chosen']['encoder']}-{found['chosen']['seed']}" if found["chosen"] else ""
        variants = [_variant(name, each, found["metric"]) for name, each in found["variants"].items() if "bytes" in each]
        lines += _entry("export", f"{task}{run}: {'; '.join(variants)}")
        if registered := facts.registrations.get(task):
            held = sum(gate["holds"] for gate in registered["gates"])
            aliases = " and ".join(registered["aliases"])
            named = f"{registered['name']} version {registered['version']} {f'became {aliases}' if aliases else 'got no alias'}"
            lines += _entry("register", f"{named}; {held} of {len(registered['gates'])} gates hold")
    return lines


def _variant(name: str, measured: Json, metric: str) -> str:
    """Size, metric and latency of the smallest batch."""
    latency = measured.get("latency_ms", {})
    time = f", {latency[batch]:.1f} ms at batch {batch}" if (batch := min(latency, key=int, default=None)) else ""
    return f"{name} {measured['metric'][metric]:.3f}, {measured['bytes'] / 1e6:.0f} MB{time}"


def _checks(facts: Facts) -> list[str]:
    held = sum(bool(finding["success"]) for finding in facts.checks)
    return _entry("checks", f"{held} of {len(facts.checks)} expectations on the data hold") if facts.checks else []


def _time(facts: Facts) -> list[str]:
    if not facts.records:
        return []
    longest = max(facts.records, key=lambda record: float(record["wall_s"]))
    total = sum(float(record["wall_s"]) for record in facts.records)
    return _entry("time", f"{duration(total)} of stage work; the longest, {longest['stage']}, {duration(float(longest['wall_s']))}")
