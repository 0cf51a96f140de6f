"""The page: one HTML file without a single request to elsewhere; light and dark, wide and narrow."""

from __future__ import annotations

from html import escape

from acclimate.evaluation.report import pipeline, sections, trust
from acclimate.evaluation.report.facts import Facts
from acclimate.evaluation.report.markup import Section, badge, document
from acclimate.evaluation.report.wording import mean_and_deviation, metric_name, number, p_value, percent, signed


def render(facts: Facts, *, docs_link: str | None) -> str:
    """The whole page.

    Args:
        docs_link: of the Data Docs, relative to the page; None when there are none.
    """
    parts = [
        sections.results(facts),
        sections.pretraining(facts),
        sections.finetuning(facts),
        sections.probes(facts),
        sections.confusion(facts),
        sections.calibration(facts),
        pipeline.deployment(facts),
        pipeline.data(facts),
        trust.trust(facts),
        pipeline.checks(facts, docs_link),
        pipeline.pipeline(facts),
    ]
    shown = [part for part in parts if part.body]
    links = "".join(f'<a href="#{part.anchor}">{escape(part.title)}</a>' for part in shown)
    body = "".join(_section(part) for part in shown)
    return document(facts.title, f"<header>{_headline(facts)}</header><nav>{links}</nav><main>{body}</main>")


def _section(part: Section) -> str:
    return f'<section id="{part.anchor}"><h2>{escape(part.title)}</h2>{part.body}</section>'


def _headline(facts: Facts) -> str:
    lead = f"{escape(facts.model.name)}, adapted to a domain, fine-tuned, judged and exported."
    cards = [
        *(_score_card(facts, task) for task in facts.tasks[:2]),
        _loss_card(facts),
        *(_model_card(facts, task) for task in facts.exports),
    ]
    return f'<h1>{escape(facts.title)}</h1><p class="lead">{lead}</p><div class="cards">{"".join(card for card in cards if card)}</div>'


def _card(label: str, value: str, text: str) -> str:
    return f'<div class="card"><p class="what">{label}</p><p class="value">{value}</p><p class="text">{text}</p></div>'


def _score_card(facts: Facts, task: str) -> str:
    found = facts.metrics[task]
    metric = found["metric"]
    encoder = "adapted" if "adapted" in found else "base"
    compared = facts.comparisons.get("tasks", {}).get(task, {})
    decision = compared.get("decision")
    text = f"baseline {number(found['baseline']['test'][metric])}"
    if "base" in found and encoder == "adapted":
        text += f", base {mean_and_deviation(found['base'][metric])}"
    if decision and (difference := found.get("difference", {}).get(metric)):
        tone = {"helps": "good", "hurts": "bad"}.get(decision, "plain")
        said = {"helps": "adaptation helps", "hurts": "adaptation hurts"}.get(decision, decision)
        interval = f"{signed(difference['low'])} to {signed(difference['high'])}"
        p = p_value(compared.get("p_holm", difference["p"]))
        text += f"<br>{badge(said, tone)} {signed(difference['mean'])} ({percent(facts.confidence)}: {interval}; p {p})"
    return _card(f"{escape(task)}, {metric_name(metric)}, {encoder}", mean_and_deviation(found[encoder][metric]), text)


def _loss_card(facts: Facts) -> str:
    if not (losses := facts.pretraining.get("heldout_loss")):
        return ""
    text = "masked-token loss on held-out domain text"
    if general := facts.pretraining.get("general_loss"):
        text += f"<br>general text {number(general['base'], 2)} \u2192 {number(general['adapted'], 2)}"
    return _card("Domain loss", f"{number(losses['base'], 2)} \u2192 {number(losses['adapted'], 2)}", text)


def _model_card(facts: Facts, task: str) -> str:
    found, registration = facts.exports[task], facts.registrations.get(task)
    variant = found["chosen"].get("variant", "fp32")
    measured = found["variants"][variant]
    times = ", ".join(f"{ms:.1f} ms at batch {batch}" for batch, ms in measured.get("latency_ms", {}).items())
    text = f"{escape(variant)}, {measured['bytes'] / 1e6:.1f} MB, {times}"
    if not registration:
        return _card("Exported", escape(task), text)
    aliases = " ".join(badge(alias, "good" if alias == "champion" else "plain") for alias in registration["aliases"])
    return _card("Registered", f"{escape(registration['name'])} v{registration['version']}", f"{aliases} {text}")
