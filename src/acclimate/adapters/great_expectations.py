"""Great Expectations 1.x: suites in code, one checkpoint, and Data Docs as one page.

The page is written from a template of the report. Great Expectations' own pages show row text as HTML, so a text such as
`<svg onload=...>` ran as script; they also load style sheets and scripts from other hosts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acclimate import artifacts
from acclimate.errors import one_line
from acclimate.report.render import render
from acclimate.report.wording import expectation_words

if TYPE_CHECKING:
    import pandas as pd

_ROW_IDS_SHOWN = 10
_VALUE_CHARS = 100
_SETTING_CHARS = 300
_VALUES_SHOWN = 10
_WORDS = {"ExpectColumnValuesToBeUnique": "each value once", "ExpectColumnValuesToNotBeNull": "no empty cell"}


@dataclass(frozen=True)
class Check:
    """One expectation: its class name in great_expectations.expectations, its arguments, and the key of params.yaml that sets its limit."""

    expectation: str
    arguments: dict[str, Any]
    setting: str = ""

    def limit(self) -> str:
        """What it allows, in words."""
        given = self.arguments
        low, high = given.get("min_value"), given.get("max_value")
        if "value_set" in given:
            values = [str(value)[:_VALUE_CHARS] for value in given["value_set"]]
            words = ", ".join(values[:_VALUES_SHOWN]) + (f" and {len(values) - _VALUES_SHOWN} more" if len(values) > _VALUES_SHOWN else "")
        elif "regex" in given:
            words = f"nothing that matches {given['regex']!a}"
        elif low is not None or high is not None:
            limits = {"at least": low, "at most": high}
            words = " and ".join(f"{side} {limit:,}" for side, limit in limits.items() if limit is not None)
        else:
            words = _WORDS.get(self.expectation) or expectation_words(self.expectation)
        mostly = f" in {given['mostly']:.4g} of the rows" if given.get("mostly", 1) < 1 else ""
        return words + mostly + (f", set by {self.setting}" if self.setting else "")


@dataclass(frozen=True)
class Suite:
    """A named table and what is expected of it; `table` has a column `id` that names its rows."""

    name: str
    table: pd.DataFrame
    checks: list[Check]


@dataclass(frozen=True)
class Finding:
    """The outcome of one expectation."""

    suite: str
    expectation: str
    column: str | None
    success: bool
    observed: str | None
    unexpected_count: int
    unexpected_percent: float | None
    row_ids: list[str]
    limit: str

    def describe(self) -> str:
        """One line: where, what was found, in which rows, what is allowed, and the key that sets it."""
        place = f"{self.suite}.{self.column}" if self.column else self.suite
        found = f"found {self.observed}" if self.observed else "does not hold"
        if self.row_ids:
            more = ", ..." if self.unexpected_count > len(self.row_ids) else ""
            found = f"{self.unexpected_count} rows at fault, ids {', '.join(self.row_ids)}{more}"
        return one_line(f"{place}: {found}; allowed: {self.limit}")


def run_suites(suites: list[Suite], docs: Path) -> list[Finding]:
    """Run every suite as one checkpoint and write Data Docs.

    Args:
        docs: directory of the page `index.html`.
    """
    import logging

    import great_expectations as gx

    for name in ("great_expectations", "great_expectations.data_context.types.base"):
        logging.getLogger(name).setLevel(logging.ERROR)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    for site in list(context.get_site_names()):
        context.delete_data_docs_site(site)
    definitions, parameters = [], {}
    source = context.data_sources.add_pandas("tables")
    for suite in suites:
        batch = source.add_dataframe_asset(suite.name).add_batch_definition_whole_dataframe(suite.name)
        expectations = [getattr(gx.expectations, check.expectation)(**check.arguments) for check in suite.checks]
        stored = context.suites.add(gx.ExpectationSuite(name=suite.name, expectations=expectations))
        definitions.append(context.validation_definitions.add(gx.ValidationDefinition(name=suite.name, data=batch, suite=stored)))
        parameters[suite.name] = suite.table
    outcomes: dict[str, list[Any]] = {}
    for suite, definition in zip(suites, definitions, strict=True):
        checkpoint = gx.Checkpoint(
            name=suite.name,
            validation_definitions=[definition],
            result_format={
                "result_format": "COMPLETE",
                "unexpected_index_column_names": ["id"],
                "partial_unexpected_count": _ROW_IDS_SHOWN,
            },
        )
        outcome = context.checkpoints.add(checkpoint).run(batch_parameters={"dataframe": suite.table})
        outcomes[suite.name] = [item for result in outcome.run_results.values() for item in result.results]
    (docs / "index.html").write_text(_page(suites, outcomes), encoding="utf-8")
    return [_finding(suite, item) for suite in suites for item in outcomes[suite.name]]


def _finding(suite: Suite, item: Any) -> Finding:
    settings, result = item.expectation_config, item.result
    indices = result.get("unexpected_index_list") or []
    observed = result.get("observed_value") if item.success or result else _exception(item)
    return Finding(
        suite=suite.name,
        expectation=settings.type,
        column=settings.kwargs.get("column"),
        success=bool(item.success),
        observed=None if observed is None else str(observed)[:200],
        unexpected_count=int(result.get("unexpected_count") or 0),
        unexpected_percent=None if result.get("unexpected_percent") is None else float(result["unexpected_percent"]),
        row_ids=[str(entry.get("id")) for entry in indices[:_ROW_IDS_SHOWN]],
        limit=_check_of(suite, settings).limit(),
    )


def _check_of(suite: Suite, settings: Any) -> Check:
    """The check that an outcome is of: Great Expectations gives outcomes in an order of its own."""
    same = [check for check in suite.checks if all(settings.kwargs.get(name) == value for name, value in check.arguments.items())]
    return next(check for check in same if expectation_words(check.expectation) == expectation_words(settings.type))


def _exception(item: Any) -> str:
    """What an expectation that could not be evaluated raised: a fault of the suite, and never a pass."""
    told = item.exception_info
    details = [told] if "exception_message" in told else list(told.values())
    return "; ".join(str(detail.get("exception_message")) for detail in details if isinstance(detail, dict))


def _page(suites: list[Suite], outcomes: dict[str, list[Any]]) -> str:
    """Each suite with its expectations, what was found, and the rows at fault."""
    shown = [
        {
            "name": suite.name,
            "rows": len(suite.table),
            "failed": sum(not item.success for item in outcomes[suite.name]),
            "outcomes": [_outcome(suite, item) for item in outcomes[suite.name]],
        }
        for suite in suites
    ]
    return render("data_docs.html", title="Data Docs", suites=shown)


def _outcome(suite: Suite, item: Any) -> tuple[Finding, str, list[tuple[str, str]]]:
    """What was found, the expectation's settings, and id and value of the rows at fault."""
    finding, arguments = _finding(suite, item), sorted(item.expectation_config.kwargs.items(), reverse=True)
    settings = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in arguments if name not in ("batch_id", "column"))
    values = [str(entry.get(finding.column, "")) for entry in item.result.get("unexpected_index_list") or []]
    at_fault = [(id_[:_VALUE_CHARS], value[:_VALUE_CHARS]) for id_, value in zip(finding.row_ids, values, strict=False)]
    return finding, settings[:_SETTING_CHARS], at_fault


def write_findings(findings: list[Finding], path: Path) -> None:
    """Write results.json."""
    artifacts.write_json(path, [finding.__dict__ for finding in findings])
