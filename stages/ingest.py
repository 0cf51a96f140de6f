"""Read, clean, drop duplicates and split; what is dropped is kept with its reason."""

from __future__ import annotations

from pathlib import Path

from acclimate import artifacts
from acclimate.config import IngestConfig, Section, TaskConfig
from acclimate.data.corpus import hold_out, read_documents, write_documents
from acclimate.data.quarantine import Quarantine
from acclimate.data.tables import build_table
from acclimate.errors import DataError
from stages.command import Out, StageContext, main


class Params(Section):
    """What this stage reads."""

    seed: int
    ingest: IngestConfig
    tasks: dict[str, TaskConfig]


def run(params: Params, *, data: Path, out: Out, context: StageContext) -> None:
    """Write the corpus, its held-out part, general text, every table, the quarantine and the counts."""
    config, quarantine = params.ingest, Quarantine()
    held_out: set[str] = set()
    for name, task in params.tasks.items():
        held_out |= build_table(name, task, data, out / "tables" / name, quarantine, seed=params.seed)
    seen: set[str] = set()
    heldout = read_documents(config.heldout, data, "heldout", quarantine, min_chars=config.min_chars, seen=seen, held_out=set())
    groups = frozenset(group for _, _, _, group in heldout)
    corpus = read_documents(
        config.corpus, data, "corpus", quarantine, min_chars=config.min_chars, seen=seen, held_out=held_out, held_out_groups=groups
    )
    general = read_documents(config.general, data, "general", quarantine, min_chars=config.min_chars, seen=set(), held_out=set())
    if not config.heldout:
        corpus, heldout = hold_out(corpus, config.heldout_share, seed=params.seed)
        quarantine.move("corpus", "heldout", len(heldout))
    if not corpus or not heldout:
        raise DataError(f"ingest.corpus: {len(corpus)} documents to train on and {len(heldout)} held out; each needs one at least")
    quarantine.check(config.max_quarantine_share)
    for name, documents in (("corpus", corpus), ("heldout", heldout), ("general", general)):
        write_documents(documents, out / f"{name}.parquet")
    quarantine.write(out / "quarantine.parquet")
    metrics = quarantine.metrics()
    artifacts.write_json(out / "metrics.json", metrics)
    context.final_metrics.update(
        {f"{table}/{name}": float(count) for table, counts in metrics.items() for name, count in counts.items() if isinstance(count, int)}
    )
    context.artifacts.append(out / "metrics.json")


if __name__ == "__main__":
    main(run, Params)
