"""Speed of the data path beside an earlier commit of this project, on the same text, in turns.

    python -m benchmarks.data_against COMMIT [--rounds 5] [--json FILE]

Each side is a process in its own checkout on the first core. A ratio is old time over new, the median over the rounds: above 1 the new
one is faster. Processor time is steadier than the wall on a shared machine. For packing (G4) the share of tokens that reach a row is shown.
"""

from __future__ import annotations

import json
from dataclasses import asdict

from benchmarks.train_work import ratio_of_rounds
from benchmarks.training_against import ROOT, Side, checked_out, parse_arguments, rounds_in_turns

CONTESTS = {"G4, G5: text to packed rows": "tokenize", "G6: load and mask": "load", "the stage ingest": "ingest"}
"""By what a line shows, the work of a round."""
WORK = """
import json, pathlib, sys, tempfile, time
import psutil
sys.path[:0] = [".", "src"]
from benchmarks import bench_data as bench
from acclimate.config import load_config
from acclimate.sinks import MemorySink
from stages import ingest
from stages.command import StageContext, select_params

root, what = pathlib.Path(sys.argv[1]), sys.argv[2]
corpus = root / "data/debian/corpus.parquet"

def packed_in(directory):
    bench.our_tokenize(corpus, directory)
    return bench.read_packed(directory / "out", "corpus")

class Round:
    def __init__(self, directory):
        self.directory, self.number = directory, 0
        self.packed = packed_in(directory / "first") if what == "load" else None

    def __call__(self):
        self.number += 1
        here = self.directory / str(self.number)
        here.mkdir()
        return getattr(self, what)(here)

    def tokenize(self, here):
        packed = packed_in(here)
        import numpy as np
        return packed.ids.size / int(np.load(here / "out/corpus.document_offsets.npy")[-1])

    def load(self, here):
        loader = bench.our_loader(self.packed, 32)
        return sum(next(loader) for _ in range(3000))

    def ingest(self, here):
        config = load_config(pathlib.Path("params.yaml"))
        context = StageContext(stage="ingest", sink=MemorySink(), checkpoint_directory=here / "scratch", run_id=lambda: None)
        (here / "out").mkdir()
        config = config.model_copy(update={"ingest": config.ingest.model_copy(update={"workers": 1})})
        ingest.run(select_params(config, ingest.Params), data=root / "data", out=here / "out", context=context)
        return sum(table["kept"] for table in json.loads((here / "out/metrics.json").read_text()).values())

def processor_s():
    times = psutil.Process().cpu_times()
    return times.user + times.system + times.children_user + times.children_system

with tempfile.TemporaryDirectory() as directory:
    work = Round(pathlib.Path(directory))
    quality = work()
    print(json.dumps({"warm": True}), flush=True)
    for _ in sys.stdin:
        wall, processor = time.perf_counter(), processor_s()
        quality = work()
        found = {"seconds": time.perf_counter() - wall, "processor_s": processor_s() - processor, "quality": quality}
        print(json.dumps({"round": found}), flush=True)
"""


def main() -> None:
    given = parse_arguments(__doc__)
    results = {}
    with checked_out(given.commit) as old:
        for name, what in CONTESTS.items():
            sides = {which: Side(tree, ["-c", WORK, str(ROOT), what]) for which, tree in {"old": old, "new": ROOT}.items()}
            rounds = rounds_in_turns(sides, given.rounds)
            for side in sides.values():
                side.stop()
            times = {
                clock: {which: [each[clock] for each in found] for which, found in rounds.items()} for clock in ("seconds", "processor_s")
            }
            ratios = {clock: ratio_of_rounds(found["old"], found["new"]) for clock, found in times.items()}
            quality = {which: found[-1]["quality"] for which, found in rounds.items()}
            print(f"{name}: old over new {ratios['processor_s']} by processor time, {ratios['seconds']} by the wall; {quality}", flush=True)
            results[name] = {"ratio": {clock: asdict(ratio) for clock, ratio in ratios.items()}, "times": times, "quality": quality}
    if given.json:
        given.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
