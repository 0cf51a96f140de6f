"""One page for people, and the same in a dozen lines for a terminal."""

from __future__ import annotations

import os
from pathlib import Path

from acclimate.backbones.options import ModelConfig
from acclimate.config import ReportConfig
from acclimate.report.facts import Sources, read_facts
from acclimate.report.page import page, summary
from acclimate.settings import Section
from acclimate.training.options import FinetuneConfig, RunsConfig
from stages.command import Out, StageContext, main


class Params(Section):
    """What this stage reads."""

    report: ReportConfig
    runs: RunsConfig
    model: ModelConfig
    finetune: FinetuneConfig


def run(
    params: Params,
    *,
    ingest: Path,
    tokenize: Path,
    pretrain: Path,
    finetune: Path,
    evaluate: Path,
    probe: Path,
    export: Path,
    register: Path,
    records: Path,
    validate: Path,
    out: Out,
    context: StageContext,
) -> None:
    """Write report.html and summary.txt from what the other stages wrote. A part that was not made is left out."""
    sources = Sources(ingest, tokenize, pretrain, finetune, evaluate, probe, export, register, records, validate)
    facts = read_facts(sources, params.runs, title=params.report.title, model=params.model, finetune=params.finetune)
    link = os.path.relpath(Path(facts.data_docs) / "index.html", out) if facts.data_docs else None
    (out / "report.html").write_text(page(facts, docs_link=link), encoding="utf-8")
    (out / "summary.txt").write_text(summary(facts), encoding="utf-8")
    context.artifacts += [out / "report.html", out / "summary.txt"]


if __name__ == "__main__":
    main(run, Params)
