"""The sections on everything around the models: deployment, data, checks, and how the pipeline ran."""

from __future__ import annotations

from collections import Counter
from html import escape
from typing import Any

from acclimate.evaluation.report.charts import bar_table
from acclimate.evaluation.report.facts import Facts, Json, Table, outs_of
from acclimate.evaluation.report.markup import Section, badge, details, figure, grid, note, table
from acclimate.evaluation.report.plan import plan_against_fact
from acclimate.evaluation.report.wording import count, duration, expectation_words, metric_name, number, percent

_LABELS_SHOWN = 30
_COMMIT_DIGITS = 10


def deployment(facts: Facts) -> Section:
    """What was exported, how fast and how large it is, and what the registry holds."""
    parts = []
    for task, found in facts.exports.items():
        parts.append(f"<h3>{escape(task)}</h3>{_registration(facts.registrations.get(task))}{_variants(found)}")
        parts.append(grid([_latency_figure(found, batch) for batch in _batches(found)] + [_size_figure(found)]))
        if measured := found.get("latency"):
            calls = f"Median of {measured['rounds']} calls, {measured['tokens']} tokens a row, {measured['threads']} thread"
            parts.append(note(f"{calls}; variants measured in turn; load of the machine {measured['load_1min']}."))
        parts.append(_gates(facts.registrations.get(task)))
    return Section("deployment", "Deployment", "".join(parts))


def _registration(registration: Json | None) -> str:
    if not registration:
        return "<p>Exported, not registered.</p>"
    aliases = " ".join(badge(alias, "good" if alias == "champion" else "plain") for alias in registration["aliases"])
    name, uri = escape(registration["name"]), escape(registration["model_uri"])
    return f"<p><b>{name}</b> version {registration['version']} {aliases} <code>{uri}</code></p>"


def _batches(found: Json) -> list[str]:
    return sorted(next((each["latency_ms"] for each in found["variants"].values() if "latency_ms" in each), {}), key=int)


def _variants(found: Json) -> str:
    metric, chosen, batches = found["metric"], found["chosen"], _batches(found)
    rows = []
    for name, each in found["variants"].items():
        named = f"<b>{escape(name)}</b> {badge('chosen', 'good')}" if name == chosen.get("variant") else escape(name)
        size = f"{each['bytes'] / 1e6:.1f}" if "bytes" in each else "\u2013"
        difference = f"{each['max_logit_difference']:.2g}" if "max_logit_difference" in each else "\u2013"
        flips = f"{count(each['label_flips'])} of {count(each['decisions'])}" if "label_flips" in each else "\u2013"
        times = [f"{each['latency_ms'][batch]:.1f}" for batch in batches if "latency_ms" in each]
        rows.append([named, number(each["metric"][metric], 4), size, *times, difference, flips])
    heads = [
        "variant",
        metric_name(metric),
        "MB",
        *(f"ms, batch {batch}" for batch in batches),
        "largest logit difference",
        "decisions changed",
    ]
    which = f"Run {escape(str(chosen['encoder']))}-{chosen['seed']}, the best on dev. " if chosen else ""
    return table(heads, rows) + note(f"{which}Differences are against torch on every test row.")


def _latency_figure(found: Json, batch: str) -> str:
    chosen = found["chosen"].get("variant")
    rows = [
        (name, each["latency_ms"][batch], f"{each['latency_ms'][batch]:.1f} ms")
        for name, each in found["variants"].items()
        if "latency_ms" in each
    ]
    return figure(f"Latency, batch {batch}", bar_table(rows, highlight=chosen))


def _size_figure(found: Json) -> str:
    rows = [(name, float(each["bytes"]), f"{each['bytes'] / 1e6:.1f} MB") for name, each in found["variants"].items() if "bytes" in each]
    return figure("Size", bar_table(rows, highlight=found["chosen"].get("variant"))) if rows else ""


def _gates(registration: Json | None) -> str:
    if not registration or not registration["gates"]:
        return ""
    rows = [
        [
            escape(gate["gate"]),
            badge("holds", "good") if gate["holds"] else badge("does not hold", "bad"),
            escape(gate.get("note", "")),
            "\u2013" if gate["value"] is None else number(gate["value"]),
            number(gate["limit"]),
        ]
        for gate in registration["gates"]
    ]
    return table(["gate", "", "", "value", "limit"], rows, text_columns=3)


def data(facts: Facts) -> Section:
    """Counts, quarantine, splits, labels, tokens."""
    if not facts.ingested:
        return Section("data", "Data", "")
    rows = [
        [escape(name), *(count(found.get(key, 0)) for key in ("read", "kept", "not_sampled", "quarantined"))]
        for name, found in facts.ingested.items()
    ]
    body = table(["table", "read", "kept", "not sampled", "quarantined"], rows) + _quarantine(facts.ingested)
    body += _tokens(facts) + _splits(facts)
    body += grid([_label_figure(task, each) for task, each in facts.tables.items()])
    return Section("data", "Data", body)


def _quarantine(ingested: Json) -> str:
    rows = [
        [escape(name), escape(rule), count(number_)] for name, found in ingested.items() for rule, number_ in found.get("rules", {}).items()
    ]
    if not rows:
        return note("Nothing was quarantined.")
    return table(["quarantined from", "rule", "rows"], rows, text_columns=2) + note(
        "Each row is kept with its reason in quarantine.parquet."
    )


def _tokens(facts: Facts) -> str:
    rows = [
        [
            escape(name),
            *(count(found[key]) for key in ("documents", "tokens")),
            number(found["tokens_per_word"], 2),
            percent(found["unknown_share"], 3),
            percent(found["efficiency"], 2),
        ]
        for name, found in facts.tokenized.items()
        if isinstance(found, dict) and found.get("documents")
    ]
    return table(["packed text", "documents", "tokens", "tokens per word", "unknown tokens", "tokens used"], rows) if rows else ""


def _splits(facts: Facts) -> str:
    rows = []
    for task, each in facts.tables.items():
        cut = [run.truncated_share for run in facts.finetuned if run.task == task and run.truncated_share is not None]
        kind = str(each.schema.get("kind", "")).replace("_", "-")
        rows.append(
            [
                f"<b>{escape(task)}</b>",
                escape(kind),
                *(count(each.rows.get(split, 0)) for split in ("train", "dev", "test")),
                percent(cut[0], 1) if cut else "\u2013",
            ]
        )
    return table(["task", "kind", "train", "dev", "test", "rows cut to length"], rows, text_columns=2) if rows else ""


def _label_figure(task: str, each: Table) -> str:
    if not each.labels:
        return ""
    what = "Entities by type" if each.schema.get("kind") == "tagging" else "Rows by label"
    shown = list(each.labels.items())[:_LABELS_SHOWN]
    rest = len(each.labels) - len(shown)
    return figure(
        f"{what}: {task}",
        bar_table([(name, float(value), count(value)) for name, value in shown]),
        f"and {rest} more labels" if rest > 0 else "",
    )


def checks(facts: Facts, docs_link: str | None) -> Section:
    """What Great Expectations looked at."""
    if not facts.checks:
        return Section("checks", "What was checked", "")
    held, total = Counter[str](), Counter[str]()
    for finding in facts.checks:
        total[finding["suite"]] += 1
        held[finding["suite"]] += bool(finding["success"])
    rows = [
        [
            escape(suite),
            f"{held[suite]} of {total[suite]}",
            badge("holds", "good") if held[suite] == total[suite] else badge("does not hold", "bad"),
        ]
        for suite in total
    ]
    link = f' <a href="{escape(docs_link)}">Data Docs</a> show each with its rows.' if docs_link else ""
    body = f"<p><b>{sum(held.values())} of {sum(total.values())}</b> expectations hold.{link}</p>"
    body += table(["suite", "expectations that hold", ""], rows)
    listed = [
        [
            escape(each["suite"]),
            escape(expectation_words(each["expectation"])),
            escape(each["column"] or ""),
            "holds" if each["success"] else "does not hold",
        ]
        for each in facts.checks
    ]
    return Section(
        "checks",
        "What was checked",
        body + details("Every expectation", table(["suite", "expectation", "column", ""], listed, text_columns=4)),
    )


def pipeline(facts: Facts) -> Section:
    """Wall time of each stage, the machine, and which runs and commits made the bytes."""
    if not facts.records:
        return Section("pipeline", "Pipeline", "")
    bars = bar_table([(record["stage"], float(record["wall_s"]), duration(record["wall_s"])) for record in facts.records])
    total = sum(record["wall_s"] for record in facts.records)
    commits = sorted({str(record.get("git_commit") or "unknown")[:_COMMIT_DIGITS] for record in facts.records})
    at = ", ".join(f"<code>{escape(commit)}</code>" for commit in commits)
    body = f"<p><b>{duration(total)}</b> of stage work in {len(facts.records)} stage runs, at commit {at}.</p>"
    body += figure("Wall time", bars, "A stage restored from the cache shows the run that made its bytes.") + _machine(facts)
    body += plan_against_fact(facts)
    return Section("pipeline", "Pipeline", body + details("Runs, memory and throughput", _runs(facts)))


def _runs(facts: Facts) -> str:
    rows = [
        [
            escape(record["stage"]),
            f"<code>{escape(str(record.get('run_id') or '-'))}</code>",
            escape(record["started_at"].replace("T", " ").rstrip("Z")),
            count(record["peak_rss_mb"]),
            _throughput(record),
        ]
        for record in facts.records
    ]
    return table(["stage", "MLflow run", "started (UTC)", "peak MB", "tokens/s"], rows, text_columns=3)


def _throughput(record: Json) -> str:
    value = record.get("tokens_per_s", record.get("train_tokens_per_s"))
    return count(value) if value else "\u2013"


def _machine(facts: Facts) -> str:
    found: dict[str, Any] = dict(facts.machine)
    devices = sorted({f"{record['device']}, {record.get('precision', 'fp32')}" for record in facts.records if "device" in record})
    first = [
        ("processor", found.pop("processor")),
        ("cores", found.pop("cores")),
        ("memory", found.pop("memory")),
        ("computed on", "; ".join(devices) or "cpu"),
    ]
    items = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in [*first, *found.items()])
    return f'<dl class="facts">{items}</dl>'


def docs_out(facts: Facts) -> str | None:
    """Where the validate stage wrote Data Docs, by its record."""
    for record in facts.records:
        if record["stage"] == "validate":
            return next((path for path in outs_of(record) if "docs" in path), None)
    return None
