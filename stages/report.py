"""One page for people, and the same in a dozen lines for a terminal."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from acclimate import artifacts
from acclimate.backbones.options import ModelConfig
from acclimate.config import ReportConfig
from acclimate.report.facts import Sources, read_facts
from acclimate.report.page import page, summary
from acclimate.report.views import losses_over_steps
from acclimate.settings import Options
from acclimate.training.options import EncoderConfig, RecipeConfig, RunsConfig
from stages.command import Out, StageContext, main


class Params(Options):
    """What this stage reads."""

    report: ReportConfig
    runs: RunsConfig
    model: ModelConfig
    pretrain: dict[str, Any]
    encoders: dict[str, EncoderConfig]
    finetune: dict[str, Any]
    recipes: dict[str, RecipeConfig]


def run(
    params: Params,
    *,
    ingest: Path,
    tokenize: Path,
    pretrain: Path,
    encoders: Path,
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
    sources = Sources(ingest, tokenize, pretrain, encoders, finetune, evaluate, probe, export, register, records, validate)
    facts = read_facts(
        sources,
        params.runs,
        title=params.report.title,
        model=params.model,
        encoders=params.encoders,
        recipes=params.recipes,
    )
    link = os.path.relpath(Path(facts.data_docs) / "index.html", out) if facts.data_docs else None
    (out / "report.html").write_text(page(facts, docs_link=link), encoding="utf-8")
    for name in ("heldout_loss", "general_loss"):  # for `dvc plots`
        artifacts.write_csv(out / f"{name}.csv", ["step", *params.runs.encoders], losses_over_steps(facts, name))
    artifacts.write_json(out / "pretraining.json", {each.encoder: each.losses for each in facts.pretraining})
    (out / "summary.txt").write_text(summary(facts), encoding="utf-8")
    context.artifacts += [out / "report.html", out / "summary.txt"]


if __name__ == "__main__":
    main(run, Params)
