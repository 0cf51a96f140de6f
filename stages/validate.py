"""Great Expectations over the corpus and every table; a failure names the rows at fault."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acclimate import artifacts, kinds
from acclimate.adapters.great_expectations import Check, Suite, run_suites, write_findings
from acclimate.data.leakage.contamination import DecontaminationConfig, EvaluationIndex, EvaluationText, decide
from acclimate.data.leakage.hashing import hash_texts
from acclimate.data.leakage.near_duplicates import TEXTS
from acclimate.data.lengths import is_cut, log_cut
from acclimate.data.options import ValidateConfig
from acclimate.data.screening.drift import TextStatistics, drift
from acclimate.data.screening.language import LanguageConfig, judge_languages
from acclimate.data.tokens.encoding import count_tokens, load_tokenizer
from acclimate.errors import DataError
from acclimate.evaluation.label_ranking import rank_label_problems
from acclimate.runtime import STATE_DIRECTORY
from acclimate.settings import Options
from stages.command import Out, StageContext, main

if TYPE_CHECKING:
    import pandas as pd
    from tokenizers import Tokenizer

_FAILURES_SHOWN = 5
_LANGUAGE_ROWS = 2000

_SETTINGS = {
    "tokens": "validate.min_tokens",
    "training_rows_of_its_rarest_label": "validate.min_rows_per_label",
    "share_of_the_largest_class": "validate.max_class_share",
    "share_in_other_languages": "ingest.language",
    "evaluation_text_inside": "ingest.decontamination",
    **{f"rows_{split}": "validate.min_rows_per_split" for split in ("train", "dev", "test")},
}
"""The key of params.yaml that sets what is expected of a column."""

Finder = Callable[[list[str]], list[int]]
"""Gives the positions of the documents that hold an evaluation text."""


class Params(Options):
    """What this stage reads."""

    seed: int
    validate_: ValidateConfig


def run(params: Params, *, ingest: Path, tokenizer: Path, out: Out, docs: Out, context: StageContext) -> None:
    """Check everything that ingest wrote, build Data Docs, and rank labels that look wrong.

    Args:
        tokenizer: tokenizer.json of the encoder, for lengths in tokens.

    Raises:
        DataError: expectations that do not hold, with row ids; the Data Docs are kept under .acclimate/failed/data_docs.
    """
    config = params.validate_
    tables = [table for table in sorted((ingest / "tables").iterdir()) if table.is_dir()]
    facts = artifacts.read_json(ingest / "text.json")
    find_contaminated = _finder(tables, facts["decontamination"])
    reads = load_tokenizer(tokenizer.parent)
    tokens = partial(count_tokens, reads)
    language = LanguageConfig(**facts["language"])
    texts = [name for name in TEXTS if _has_rows(ingest / f"{name}.parquet")]
    statistics = {name: _text_statistics(ingest / f"{name}.parquet") for name in texts}
    statistics |= {f"tables/{table.name}": _table_statistics(table) for table in tables}
    drifted = _drift_by_table(facts["reference"], statistics)
    suites = []
    for name in texts:
        finder = find_contaminated if name == "corpus" else None
        suites.append(_text_suite(name, ingest / f"{name}.parquet", config, tokens, finder, drifted[name], language))
    for table in tables:
        suites.append(_task_suite(table, config, tokens, drifted[f"tables/{table.name}"]))
        context.final_metrics[f"cut/{table.name}"] = _log_cut(table, suites[-1].table["tokens"], reads)
    findings = run_suites(suites, docs)
    artifacts.write_json(out / "statistics.json", statistics)
    write_findings(findings, out / "results.json")
    failed = [finding for finding in findings if not finding.success]
    context.final_metrics.update({"expectations": float(len(findings)), "failed": float(len(failed))})
    if failed:
        kept = STATE_DIRECTORY / "failed" / "data_docs"
        artifacts.remove(kept)
        shutil.copytree(docs, kept)
        more = [f"and {len(failed) - _FAILURES_SHOWN} more"] if len(failed) > _FAILURES_SHOWN else []
        shown = "\n  ".join([*(finding.describe() for finding in failed[:_FAILURES_SHOWN]), *more])
        raise DataError(f"{len(failed)} of {len(findings)} expectations do not hold; see {kept / 'index.html'}\n  {shown}")
    artifacts.write_json(out / "label_problems.json", _label_problems(tables, ingest / "duplicates.parquet", params))
    artifacts.write_json(out / "verdict.json", {"passed": True, "corpus_decontaminated": bool(facts["decontamination"]["checked"])})


def _has_rows(path: Path) -> bool:
    import pyarrow.parquet as pq

    return bool(pq.read_metadata(path).num_rows)


def _label_problems(tables: list[Path], clusters: Path, params: Params) -> dict[str, Any]:
    rules = params.validate_.label_problems
    return {table.name: rank_label_problems(table, clusters, rules, seed=params.seed) for table in tables}


def _drift_by_table(reference: dict[str, Any], statistics: dict[str, Any]) -> dict[str, dict[str, float]]:
    """How far the text of each table has moved from the reference; nothing for one that the reference does not know."""
    return {name: drift(reference[name], found) if name in reference else {} for name, found in statistics.items()}


def _check(expectation: str, arguments: dict[str, Any]) -> Check:
    """A check with the key that sets its limit; equal texts are allowed in tables only."""
    column = arguments.get("column", "")
    is_drift, is_share = (
        column.startswith("drift_of_"),
        column == "key" and expectation == "ExpectColumnValuesToBeUnique" and "mostly" in arguments,
    )
    setting = "validate.max_drift" if is_drift else "validate.max_duplicate_share" if is_share else _SETTINGS.get(column, "")
    return Check(expectation, arguments, setting)


def _finder(tables: list[Path], decontamination: dict[str, Any]) -> Finder | None:
    """What finds documents that hold a dev or test text; None where ingest let such documents be: evaluate decides what follows of it.

    A stock sentence is what ingest found to be one in the whole corpus. In what is left of it, or in a sample, it may stand in few
    documents, and a text that was missed in many.
    """
    if not decontamination["checked"]:
        return None
    index = EvaluationIndex.build(_evaluation_texts(tables), DecontaminationConfig(**decontamination["rules"]))
    stock = {key for _, _, key in decontamination["stock_sentences"]}
    return lambda texts: [match.document for match in decide(index.check(texts), index.config, stock=stock).worst]


def _evaluation_texts(tables: list[Path]) -> list[EvaluationText]:
    """Place, id and text of every dev and test row that ingest wrote."""
    import pyarrow.parquet as pq

    found = []
    for table in tables:
        kind = _kind(table)
        for split in ("dev", "test"):
            for row in pq.read_table(table / f"{split}.parquet").to_pylist():
                found += [EvaluationText(f"tables/{table.name}:{split}", row["id"], text) for text in kind.texts(row) if text]
    return found


def _kind(table: Path) -> type[kinds.Table]:
    return kinds.table(artifacts.read_json(table / "schema.json")["kind"])


def _text_statistics(path: Path) -> dict[str, Any]:
    import pyarrow.parquet as pq

    statistics = TextStatistics()
    for batch in pq.ParquetFile(path).iter_batches(batch_size=10_000, columns=["text"]):
        statistics.add([text or "" for text in batch["text"].to_pylist()])
    return statistics.as_json()


def _table_statistics(directory: Path) -> dict[str, Any]:
    import pyarrow.parquet as pq

    kind = _kind(directory)
    statistics = TextStatistics()
    for split in ("train", "dev", "test"):
        rows = pq.read_table(directory / f"{split}.parquet").to_pylist()
        labels = [name for row in rows for name in kind.label_names(row["label"])]
        statistics.add([kind.texts(row)[0] for row in rows], labels)
    return statistics.as_json()


def _sample(path: Path, rows: int) -> pd.DataFrame:
    """Up to about `rows` rows of a file of any size, spread evenly over it."""
    import pandas as pd
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    step = max(1, file.metadata.num_rows // rows)
    frames, start = [], 0
    for batch in file.iter_batches(batch_size=10_000):
        frames.append(batch.to_pandas().iloc[-start % step :: step])
        start += batch.num_rows
    return pd.concat(frames, ignore_index=True)


def _text_suite(
    name: str,
    path: Path,
    config: ValidateConfig,
    tokens: Callable[[list[str]], list[int]],
    find_contaminated: Finder | None,
    drifted: dict[str, float],
    language: LanguageConfig,
) -> Suite:
    """Unlabelled text: ids unique, text there, of sane length, decodable, no text twice, none of the evaluation, no drift."""
    table = _sample(path, config.max_rows)
    texts = table["text"].fillna("").tolist()
    table["characters"] = table["text"].str.len()
    table["tokens"] = tokens(texts)
    table["key"] = hash_texts(texts)
    extra = _language_checks(table, texts, language)
    if find_contaminated:
        table["evaluation_text_inside"] = False
        table.loc[find_contaminated(texts), "evaluation_text_inside"] = True
        extra.append(_check("ExpectColumnValuesToBeInSet", {"column": "evaluation_text_inside", "value_set": [False]}))
    checks = [
        *extra,
        _check("ExpectColumnValuesToBeBetween", {"column": "tokens", "min_value": config.min_tokens, "mostly": 0.99}),
        _check("ExpectColumnValuesToBeUnique", {"column": "key"}),
        *_drift_checks(table, drifted, config),
        _check("ExpectTableRowCountToBeBetween", {"min_value": 1}),
        _check("ExpectColumnValuesToNotBeNull", {"column": "text"}),
        _check("ExpectColumnValuesToBeUnique", {"column": "id"}),
        _check("ExpectColumnValuesToBeBetween", {"column": "characters", "min_value": 1, "max_value": 1_000_000}),
        _check("ExpectColumnValuesToNotMatchRegex", {"column": "text", "regex": "\ufffd", "mostly": 0.99}),
    ]
    return Suite(name, table, checks)


def _language_checks(table: pd.DataFrame, texts: list[str], language: LanguageConfig) -> list[Check]:
    """Where languages are asked for: nearly all of a sample is in one of them."""
    if not language.languages:
        return []
    step = max(1, len(texts) // _LANGUAGE_ROWS)
    judged = judge_languages(texts[::step], language)
    table["share_in_other_languages"] = sum(map(bool, judged)) / max(1, len(judged))
    return [_check("ExpectColumnMaxToBeBetween", {"column": "share_in_other_languages", "max_value": 0.01})]


def _drift_checks(table: pd.DataFrame, drifted: dict[str, float], config: ValidateConfig) -> list[Check]:
    """The population stability index against the reference, of lengths, words and labels."""
    for name, value in drifted.items():
        table[f"drift_of_{name}"] = value
    return [_check("ExpectColumnMaxToBeBetween", {"column": f"drift_of_{name}", "max_value": config.max_drift}) for name in drifted]


def _task_suite(directory: Path, config: ValidateConfig, tokens: Callable[[list[str]], list[int]], drifted: dict[str, float]) -> Suite:
    """A labelled table: its splits as one frame, with what is expected of its kind."""
    import pandas as pd

    schema = artifacts.read_json(directory / "schema.json")
    frames = [pd.read_parquet(directory / f"{split}.parquet").assign(split=split) for split in ("train", "dev", "test")]
    table = pd.concat(frames, ignore_index=True)
    table["key"] = ["\t".join(_kind(directory).texts(row)) for row in table.to_dict("records")]
    table["tokens"] = tokens(table["key"].tolist())
    table["group_parted"] = table.groupby("group")["split"].transform("nunique") > 1
    table["in_other_split"] = table.groupby("key")["split"].transform("nunique") > 1
    checks = [
        _check("ExpectColumnValuesToBeUnique", {"column": "id"}),
        _check("ExpectColumnValuesToNotBeNull", {"column": "label"}),
        _check("ExpectColumnValuesToNotMatchRegex", {"column": "key", "regex": r"^\s*$"}),
        _check("ExpectColumnValuesToBeUnique", {"column": "key", "mostly": 1 - config.max_duplicate_share}),
        _check("ExpectColumnValuesToBeInSet", {"column": "group_parted", "value_set": [False]}),
        _check("ExpectColumnValuesToBeInSet", {"column": "in_other_split", "value_set": [False]}),
        _check("ExpectColumnValuesToBeBetween", {"column": "tokens", "min_value": config.min_tokens, "mostly": 0.99}),
        _check("ExpectColumnValuesToNotMatchRegex", {"column": "key", "regex": "\ufffd", "mostly": 0.99}),
        *_drift_checks(table, drifted, config),
        *_rows_per_split(table, config),
        *_label_checks(table, schema, config),
    ]
    return Suite(f"tables/{schema['name']}".replace("/", "."), table, checks)


def _log_cut(directory: Path, tokens: pd.Series[int], tokenizer: Tokenizer) -> float:
    """The share of a table's rows that are longer than the model reads."""
    schema = artifacts.read_json(directory / "schema.json")
    room = schema["max_length"] - tokenizer.num_special_tokens_to_add(schema["pair"])
    share = float((tokens > room).mean()) if is_cut(schema["options"]) else 0.0
    log_cut(share, len(tokens), schema["max_length"], where=f"tasks.{schema['name']}")
    return share


def _rows_per_split(table: pd.DataFrame, config: ValidateConfig) -> list[Check]:
    checks = []
    for split in ("train", "dev", "test"):
        table[f"rows_{split}"] = int((table["split"] == split).sum())
        checks.append(_check("ExpectColumnMinToBeBetween", {"column": f"rows_{split}", "min_value": config.min_rows_per_split}))
    return checks


def _label_checks(table: pd.DataFrame, schema: dict[str, Any], config: ValidateConfig) -> list[Check]:
    """What the kind expects of its labels."""
    kind = kinds.table(schema["kind"])
    expected = kind.checks(table, schema["labels"], min_rows_per_label=config.min_rows_per_label, max_class_share=config.max_class_share)
    return [_check(*each) for each in expected]


if __name__ == "__main__":
    main(run, Params)
