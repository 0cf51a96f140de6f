"""Great Expectations over the corpus and every table; a failure names the rows at fault."""

from __future__ import annotations

import shutil
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
        shown = "\n  ".join(finding.describe() for finding in failed[:_FAILURES_SHOWN])
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
    table["groups_parted"] = table.groupby("group")["split"].transform("nunique") > 1
    checks = [
        Check("ExpectColumnValuesToBeUnique", {"column": "id"}),
        Check("ExpectColumnValuesToNotBeNull", {"column": "label"}),
        Check("ExpectColumnValuesToNotMatchRegex", {"column": "key", "regex": r"^\s*$"}),
        Check("ExpectColumnValuesToBeUnique", {"column": "key", "mostly": 1 - config.max_duplicate_share}),
        Check("ExpectColumnValuesToBeInSet", {"column": "groups_parted", "value_set": [False]}),
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
    if schema["kind"] == "classification":
        table["rows_of_label"] = table["label"].map(table.loc[table["split"] == "train", "label"].value_counts())
        return [
            Check("ExpectColumnValuesToBeInSet", {"column": "label", "value_set": schema["labels"]}),
            Check("ExpectColumnValuesToBeBetween", {"column": "rows_of_label", "min_value": config.min_rows_per_label}),
        ]
    known = set(schema["labels"])
    table["unknown_labels"] = [len(set(labels) - known) for labels in table["label"]]
    table["label"] = table["label"].map(" ".join)
    checks = [Check("ExpectColumnValuesToBeInSet", {"column": "unknown_labels", "value_set": [0]})]
    if schema["kind"] == "tagging":
        table["words_minus_tags"] = table["words"].str.len() - table["label"].str.split(" ").str.len()
        del table["words"]
        checks.append(Check("ExpectColumnValuesToBeInSet", {"column": "words_minus_tags", "value_set": [0]}))
    return checks


if __name__ == "__main__":
    main(run, Params)
