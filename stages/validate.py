"""Great Expectations over the corpus and every table; a failure names the rows at fault."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acclimate import artifacts
from acclimate.adapters.great_expectations import Check, Suite, run_suites, write_findings
from acclimate.config import Section, ValidateConfig
from acclimate.errors import DataError
from acclimate.runtime import STATE_DIRECTORY
from stages.command import Out, StageContext, main

if TYPE_CHECKING:
    import pandas as pd

_FAILURES_SHOWN = 5


class Params(Section):
    """What this stage reads."""

    validate_: ValidateConfig


def run(params: Params, *, ingest: Path, out: Out, docs: Out, context: StageContext) -> None:
    """Check everything that ingest wrote, and build Data Docs.

    Raises:
        DataError: expectations that do not hold, with row ids; the Data Docs are kept under .acclimate/failed/data_docs.
    """
    suites = [
        _text_suite(name, ingest / f"{name}.parquet") for name in ("corpus", "heldout", "general") if _has_rows(ingest / f"{name}.parquet")
    ]
    suites += [_task_suite(table, params.validate_) for table in sorted((ingest / "tables").iterdir()) if table.is_dir()]
    findings = run_suites(suites, docs)
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
    artifacts.write_json(out / "verdict.json", {"passed": True})


def _has_rows(path: Path) -> bool:
    import pyarrow.parquet as pq

    return bool(pq.read_metadata(path).num_rows)


def _text_suite(name: str, path: Path) -> Suite:
    """Unlabelled text: ids unique, text there, of sane length, no undecodable characters."""
    import pandas as pd

    table = pd.read_parquet(path)
    table["characters"] = table["text"].str.len()
    checks = [
        Check("ExpectTableRowCountToBeBetween", {"min_value": 1}),
        Check("ExpectColumnValuesToNotBeNull", {"column": "text"}),
        Check("ExpectColumnValuesToBeUnique", {"column": "id"}),
        Check("ExpectColumnValuesToBeBetween", {"column": "characters", "min_value": 1, "max_value": 1_000_000}),
        Check("ExpectColumnValuesToNotMatchRegex", {"column": "text", "regex": "\ufffd", "mostly": 0.99}),
    ]
    return Suite(name, table, checks)


def _task_suite(directory: Path, config: ValidateConfig) -> Suite:
    """A labelled table: its splits as one frame, with what is expected of its kind."""
    import pandas as pd

    schema = artifacts.read_json(directory / "schema.json")
    frames = [pd.read_parquet(directory / f"{split}.parquet").assign(split=split) for split in ("train", "dev", "test")]
    table = pd.concat(frames, ignore_index=True)
    table["key"] = (table["words"].str.join(" ") if schema["kind"] == "tagging" else table["text"]) + "\t" + table.get("text_pair", "")
    table["group_parted"] = table.groupby("group")["split"].transform("nunique") > 1
    table["in_other_split"] = table.groupby("key")["split"].transform("nunique") > 1
    checks = [
        Check("ExpectColumnValuesToBeUnique", {"column": "id"}),
        Check("ExpectColumnValuesToNotBeNull", {"column": "label"}),
        Check("ExpectColumnValuesToNotMatchRegex", {"column": "key", "regex": r"^\s*$"}),
        Check("ExpectColumnValuesToBeUnique", {"column": "key", "mostly": 1 - config.max_duplicate_share}),
        Check("ExpectColumnValuesToBeInSet", {"column": "group_parted", "value_set": [False]}),
        Check("ExpectColumnValuesToBeInSet", {"column": "in_other_split", "value_set": [False]}),
        *_rows_per_split(table, config),
        *_label_checks(table, schema, config),
    ]
    return Suite(f"tables/{schema['name']}".replace("/", "."), table, checks)


def _rows_per_split(table: pd.DataFrame, config: ValidateConfig) -> list[Check]:
    checks = []
    for split in ("train", "dev", "test"):
        table[f"rows_{split}"] = int((table["split"] == split).sum())
        checks.append(Check("ExpectColumnMinToBeBetween", {"column": f"rows_{split}", "min_value": config.min_rows_per_split}))
    return checks


def _label_checks(table: pd.DataFrame, schema: dict[str, Any], config: ValidateConfig) -> list[Check]:
    """By kind: labels in the set and often enough; numbers finite; tags as many as words."""
    if schema["kind"] == "regression":
        return [Check("ExpectColumnValuesToBeBetween", {"column": "label", "min_value": -1e9, "max_value": 1e9})]
    labels = table["label"].map(lambda label: [label] if schema["kind"] == "classification" else list(label))
    if schema["kind"] == "tagging":
        return _tag_checks(table, schema["labels"])
    in_training = Counter(label for row in labels[table["split"] == "train"] for label in set(row))
    table["training_rows_of_its_rarest_label"] = [
        min((in_training[label] for label in row), default=config.min_rows_per_label) for row in labels
    ]
    enough = Check("ExpectColumnValuesToBeBetween", {"column": "training_rows_of_its_rarest_label", "min_value": config.min_rows_per_label})
    if schema["kind"] == "classification":
        return [Check("ExpectColumnValuesToBeInSet", {"column": "label", "value_set": schema["labels"]}), enough]
    table["unknown_labels"] = [len(set(row) - set(schema["labels"])) for row in labels]
    table["label"] = labels.map(" ".join)
    return [Check("ExpectColumnValuesToBeInSet", {"column": "unknown_labels", "value_set": [0]}), enough]


def _tag_checks(table: pd.DataFrame, tags: list[str]) -> list[Check]:
    """As many tags as words, all of them known, and no I- but after its own type."""
    table["words_minus_tags"] = [len(words) - len(labels) for words, labels in zip(table["words"], table["label"], strict=True)]
    table["unknown_tags"] = [len(set(labels) - set(tags)) for labels in table["label"]]
    table["spans_without_beginning"] = [
        sum(tag[:2] == "I-" and before[2:] != tag[2:] for before, tag in zip(["O", *labels], labels, strict=False))
        for labels in table["label"]
    ]
    table["label"] = table["label"].map(" ".join)
    del table["words"]
    return [
        Check("ExpectColumnValuesToBeInSet", {"column": column, "value_set": [0]})
        for column in ("words_minus_tags", "unknown_tags", "spans_without_beginning")
    ]


if __name__ == "__main__":
    main(run, Params)
