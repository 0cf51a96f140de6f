"""Great Expectations 1.x: suites in code, one checkpoint, Data Docs that read well offline."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acclimate import artifacts

if TYPE_CHECKING:
    import pandas as pd

_ROW_IDS_SHOWN = 10
_STYLESHEET = """
:root{color-scheme:light dark;--ink:#1c2733;--soft:#5b6875;--line:#d9dfe6;--page:#f6f8fa;--card:#fff;--link:#2563a8;--good:#1a7f4b;
--bad:#b3261e}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9aa7b4;--line:#30363d;--page:#0d1117;--card:#161b22;--link:#6cb0f5;--good:#3fb970;
--bad:#ff7b72}}
*{box-sizing:border-box}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--page);max-width:1000px;margin:0 auto;padding:1.5rem}
h1{font-size:1.5rem;margin:.2rem 0 1rem}
h5{font-size:1.05rem;font-family:ui-monospace,monospace;margin:0}
h6{font-size:.95rem;margin:.6rem 0 .2rem}
a{color:var(--link)}
hr{display:none}
table{border-collapse:collapse;width:100%;background:var(--card);margin:.4rem 0}
th,td{border:1px solid var(--line);padding:.35rem .65rem;text-align:left;vertical-align:top;overflow-wrap:break-word;min-width:5rem}
a[data-toggle],[id*=collapse-body]{display:none}
th{color:var(--soft);font-weight:600;font-size:.85rem}
ul{margin:.4rem 0;padding-left:1.2rem}
.ge-section{border:1px solid var(--line);border-radius:6px;background:var(--card);padding:.7rem 1rem;margin:.8rem 0}
.badge{border:1px solid var(--line);border-radius:4px;padding:0 .35rem;font-size:.85em}
.text-success,.fa-check-circle{color:var(--good)}
.text-danger,.fa-times{color:var(--bad)}
.fa-check-circle:before{content:"\\2713"}
.fa-times:before{content:"\\2717"}
i{font-style:normal;font-weight:700}
"""
_MAIN_COLUMN = re.compile(r'<div class="col-md-10 col-lg-10[^>]*>(.*)<footer', re.DOTALL)
_RUN_DETAILS = re.compile(r'<div id="section-1-content-block-3" class="col-12 p-1".*?(?=<div id="section-2")', re.DOTALL)
_RANDOM_NAME = re.compile(r"-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Check:
    """One expectation: its class name in great_expectations.expectations, and its arguments."""

    expectation: str
    arguments: dict[str, Any]


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

    def describe(self) -> str:
        """One line: where, what, which rows."""
        place = f"{self.suite}.{self.column}" if self.column else self.suite
        rows = f": {self.unexpected_count} rows at fault, ids {', '.join(self.row_ids)}" if self.row_ids else ""
        seen = f" (observed {self.observed})" if self.observed else ""
        return f"{place}: {self.expectation} does not hold{seen}{rows}"


def run_suites(suites: list[Suite], docs: Path) -> list[Finding]:
    """Run every suite as one checkpoint and build Data Docs.

    Args:
        docs: directory that becomes the site; `index.html` is its front page.
    """
    import logging

    import great_expectations as gx

    for name in ("great_expectations", "great_expectations.data_context.types.base"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("great_expectations.render.renderer.site_builder").addFilter(_raise_handled)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    _replace_site(context, docs)
    definitions, parameters = [], {}
    source = context.data_sources.add_pandas("tables")
    for suite in suites:
        batch = source.add_dataframe_asset(suite.name).add_batch_definition_whole_dataframe(suite.name)
        expectations = [getattr(gx.expectations, check.expectation)(**check.arguments) for check in suite.checks]
        stored = context.suites.add(gx.ExpectationSuite(name=suite.name, expectations=expectations))
        definitions.append(context.validation_definitions.add(gx.ValidationDefinition(name=suite.name, data=batch, suite=stored)))
        parameters[suite.name] = suite.table
    findings: list[Finding] = []
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
        for result in outcome.run_results.values():
            findings += [_finding(suite.name, item) for item in result.results]
    context.build_data_docs()
    _rewrite_site(docs, suites, findings)
    return findings


def _raise_handled(_record: Any) -> bool:
    """Raise what the site builder logs and passes over: on a full disk it goes on without the pages that it could not write."""
    if error := sys.exception():
        raise error
    return True


def _replace_site(context: Any, docs: Path) -> None:
    for name in list(context.get_site_names()):
        context.delete_data_docs_site(name)
    backend = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs.absolute())}
    context.add_data_docs_site(
        site_name="local",
        site_config={
            "class_name": "SiteBuilder",
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
            "store_backend": backend,
            "show_how_to_buttons": False,
        },
    )


def _finding(suite: str, item: Any) -> Finding:
    settings, result = item.expectation_config, item.result
    indices = result.get("unexpected_index_list") or []
    observed = result.get("observed_value") if item.success or result else _exception(item)
    return Finding(
        suite=suite,
        expectation=settings.type,
        column=settings.kwargs.get("column"),
        success=bool(item.success),
        observed=None if observed is None else str(observed)[:200],
        unexpected_count=int(result.get("unexpected_count") or 0),
        unexpected_percent=None if result.get("unexpected_percent") is None else float(result["unexpected_percent"]),
        row_ids=[str(entry.get("id")) for entry in indices[:_ROW_IDS_SHOWN]],
    )


def _exception(item: Any) -> str:
    """What an expectation that could not be evaluated raised: a fault of the suite, and never a pass."""
    told = item.exception_info
    details = [told] if "exception_message" in told else list(told.values())
    return "; ".join(str(detail.get("exception_message")) for detail in details if isinstance(detail, dict))


def _rewrite_site(docs: Path, suites: list[Suite], findings: list[Finding]) -> None:
    """Keep what Great Expectations renders and lay it out in one flat folder that needs no network and no script.

    Its own pages load bootstrap and jquery from CDNs, fill their front page by script, and stand in folders named by the time of the run.
    """
    for suite in suites:
        result = next((docs / "validations").rglob(f"tables-{suite.name}.html")).read_text(encoding="utf-8")
        expected = next((docs / "expectations").rglob(f"{suite.name.replace('.', '/')}.html")).read_text(encoding="utf-8")
        _write_page(docs / f"{suite.name}.html", f"{suite.name}: what was found", _main_column(result, suite.name))
        _write_page(docs / f"{suite.name}.suite.html", f"{suite.name}: what is expected", _main_column(expected, suite.name))
    for leftover in ("validations", "expectations", "static"):
        artifacts.remove(docs / leftover)
    _write_page(docs / "index.html", "Data Docs", _front_page(suites, findings), home=False)


def _main_column(page: str, suite: str) -> str:
    """The body of a rendered page, without the side bar and without what differs from run to run."""
    found = _MAIN_COLUMN.search(page)
    assert found, "Great Expectations renders its pages in another way than 1.24 did"
    body = _RUN_DETAILS.sub("</div></div>", found[1])
    body = re.sub(r"<script\b.*?</script>|<img\b[^>]*>", "", body, flags=re.DOTALL)
    body = re.sub(r'href="[^"#]*/expectations/[^"]*"', f'href="{suite}.suite.html"', body)
    body = body.replace("Data asset: None<br>", "").replace(" collapse ", " ")
    body = re.sub(r"(?:\s*</div>){3}\s*$", "", body)
    return re.sub(r"\n\s*\n+", "\n", _RANDOM_NAME.sub("", body))


def _front_page(suites: list[Suite], findings: list[Finding]) -> str:
    rows = []
    for suite in suites:
        results = [finding for finding in findings if finding.suite == suite.name]
        failed = sum(not finding.success for finding in results)
        mark = f'<b class="text-danger">&#10007; {failed} do not hold</b>' if failed else '<b class="text-success">&#10003; all hold</b>'
        rows.append(
            f'<tr><td><a href="{suite.name}.html">{suite.name}</a></td><td>{len(suite.table):,}</td><td>{len(results)}</td><td>{mark}</td>'
            f'<td><a href="{suite.name}.suite.html">what is expected</a></td></tr>'
        )
    head = "<tr><th>Table</th><th>Rows</th><th>Expectations</th><th>Result</th><th>Suite</th></tr>"
    return f"<p>What was expected of the data and whether it holds, by Great Expectations.</p><table>{head}{''.join(rows)}</table>"


def _write_page(path: Path, title: str, body: str, *, home: bool = True) -> None:
    back = '<p><a href="index.html">Data Docs</a></p>' if home else ""
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><title>{title}</title>'
    content = f"<head>{head}<style>{_STYLESHEET}</style></head><body>{back}<h1>{title}</h1>{body}</body>"
    path.write_text(f'<!doctype html>\n<html lang="en">{content}</html>\n', encoding="utf-8")


def write_findings(findings: list[Finding], path: Path) -> None:
    """Write results.json."""
    artifacts.write_json(path, [finding.__dict__ for finding in findings])
