"""Great Expectations 1.x: suites in code, one checkpoint, Data Docs that read well offline."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acclimate import artifacts

if TYPE_CHECKING:
    import pandas as pd

_ROW_IDS_SHOWN = 10
_STYLESHEET = """
:root{color-scheme:light dark;--ink:#1c2733;--soft:#5b6875;--line:#d9dfe6;--page:#f6f8fa;--card:#fff;--good:#1a7f4b;--bad:#b3261e}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9aa7b4;--line:#30363d;--page:#0d1117;--card:#161b22;--good:#3fb970;--bad:#ff7b72}
}
*{box-sizing:border-box}
body{font:15px/1.55 system-ui,sans-serif;color:var(--ink);background:var(--page);max-width:1100px;margin:0 auto;padding:1.5rem}
table{border-collapse:collapse;width:100%;background:var(--card);margin:.5rem 0 1.25rem}
th,td{border:1px solid var(--line);padding:.45rem .65rem;text-align:left;vertical-align:top;overflow-wrap:anywhere}
a{color:#2563a8}
h1,h2,h3,h4,h5{line-height:1.25;margin:1.2em 0 .4em}
.breadcrumb,ul.nav,.list-unstyled{list-style:none;padding-left:0}
.breadcrumb li{display:inline}
.breadcrumb li+li:before{content:" / ";color:var(--soft)}
.card,.alert{background:var(--card);border:1px solid var(--line);border-radius:6px;padding:.6rem 1rem;margin:.6rem 0}
.badge{border:1px solid var(--line);border-radius:4px;padding:.05rem .4rem;font-size:.85em}
.text-success,.fa-check-circle{color:var(--good)}
.text-danger,.fa-times{color:var(--bad)}
.fa-check-circle:before{content:"\\2713"}
.fa-times:before{content:"\\2717"}
i{font-style:normal}
.navbar,nav img,.tooltip,.modal,.btn,button,.cooltip .top,.navigation,#ge-cta-footer,.fixed-bottom,[class*=footer]{display:none!important}
.row{display:block}
.col-12{width:100%}
.cooltip{position:relative}
img{max-width:160px}
"""


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

    logging.getLogger("great_expectations").setLevel(logging.ERROR)
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
    make_offline(docs)
    _write_index(docs, suites, findings)
    return findings


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
    observed = result.get("observed_value")
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


def make_offline(docs: Path) -> None:
    """Take out scripts, styles and images that the pages load from elsewhere, and give them a stylesheet of their own."""
    for page in docs.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        text = re.sub(r"<script\b[^>]*>.*?</script>", "", text, flags=re.DOTALL)
        text = re.sub(r"<link\b[^>]*\bhref=\"(?:https?:)?//[^>]*>", "", text)
        text = re.sub(r"<link\b[^>]*rel=\"stylesheet\"[^>]*>", "", text)
        text = re.sub(r"<img\b[^>]*>", "", text)
        text = text.replace(
            "</head>", f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{_STYLESHEET}</style></head>', 1
        )
        page.write_text(text, encoding="utf-8")
    if (docs / "static").is_dir():
        shutil.rmtree(docs / "static")


def _write_index(docs: Path, suites: list[Suite], findings: list[Finding]) -> None:
    """A front page without scripts: the one that Great Expectations builds fills its tables by JavaScript from a CDN."""
    rows = []
    for suite in suites:
        results = [finding for finding in findings if finding.suite == suite.name]
        failed = sum(not finding.success for finding in results)
        page = next((docs / "validations").rglob(f"tables-{suite.name}.html")).relative_to(docs).as_posix()
        expectations = next((docs / "expectations").rglob(f"{suite.name.replace('.', '/')}.html")).relative_to(docs).as_posix()
        mark = (
            '<b class="text-success">&#10003; all hold</b>' if not failed else f'<b class="text-danger">&#10007; {failed} do not hold</b>'
        )
        rows.append(
            f'<tr><td><a href="{page}">{suite.name}</a></td><td>{len(suite.table):,}</td><td>{len(results)}</td><td>{mark}</td>'
            f'<td><a href="{expectations}">suite</a></td></tr>'
        )
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><title>Data Docs</title>'
    table = "<table><tr><th>Table</th><th>Rows</th><th>Expectations</th><th>Result</th><th></th></tr>" + "".join(rows) + "</table>"
    body = f"<h1>Data Docs</h1><p>What was expected of the data and whether it holds, by Great Expectations.</p>{table}"
    (docs / "index.html").write_text(
        f"<!doctype html><html lang=en><head>{head}<style>{_STYLESHEET}</style></head><body>{body}</body></html>\n", encoding="utf-8"
    )


def write_findings(findings: list[Finding], path: Path) -> None:
    """Write results.json."""
    artifacts.write_json(path, [finding.__dict__ for finding in findings])
