from __future__ import annotations

import functools
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from jinja2 import UndefinedError

from acclimate.artifacts import write_json
from acclimate.data.leakage.contamination import Contamination, DecontaminationConfig, EvaluationIndex, EvaluationText, decide, verdict
from acclimate.errors import DataError
from acclimate.report import render
from acclimate.report.charts import ticks
from acclimate.report.page import COLUMNS
from acclimate.training.options import RunsConfig, Variant
from tests.unit import report_artifacts

EVERY_SECTION = ["worth", "results", "pretraining", "finetuning", "probe", "confusion", "calibration", "deployment"]
EVERY_SECTION += ["data", "trust", "checks", "pipeline"]


def runs(**own: Any) -> RunsConfig:
    """Both encoders by one recipe, unless the test says otherwise."""
    return RunsConfig.model_validate({"encoders": ["base", "mlm"], "recipes": ["full"], "reference": report_artifacts.REFERENCE, **own})


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("artifacts")
    report_artifacts.write_all(root)
    return root


@pytest.fixture(scope="module")
def written(artifacts: Path) -> Path:
    return report_artifacts.write_report(artifacts)


@pytest.fixture
def copy(artifacts: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(artifacts, tmp_path / "copy"))


def _page(directory: Path) -> str:
    return (directory / "report.html").read_text(encoding="utf-8")


def _sections(page: str) -> list[str]:
    return re.findall(r'<section id="(\w+)"', page)


class _Balance(HTMLParser):
    """Fails on a tag that closes another than the last one opened."""

    VOID = frozenset({"meta", "br", "path", "circle", "rect"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert tag in self.VOID or self.open.pop() == tag, tag


def test_the_page_has_every_section_and_is_well_formed(written):
    page = _page(written)
    assert _sections(page) == EVERY_SECTION
    parser = _Balance()
    parser.feed(page)
    assert parser.open == []


def test_the_page_asks_nothing_of_the_network(written):
    assert not re.search(r"""https?://|<script|<link|<img|@import|url\(""", _page(written))


def test_the_numbers_of_the_artifacts_stand_in_page_and_summary(artifacts, written):
    page, text = _page(written), (written / "summary.txt").read_text(encoding="utf-8")
    metrics = json.loads((artifacts / "evaluate/metrics.json").read_text())
    comparisons = json.loads((artifacts / "evaluate/comparisons.json").read_text())
    for task, metric in (("section", "macro_f1"), ("entities", "entity_f1")):
        found = metrics[task]
        compared = comparisons["tasks"][task]["variants"]["mlm-full"]
        values = [found["baseline"]["test"][metric], *(each[metric]["mean"] for each in found["variants"].values())]
        assert len(values) == 3
        for number in (
            *(f"{value:.3f}" for value in values),
            f"{compared['differences'][metric]['mean']:+.3f}",
            f"{compared['p_holm']:.3f}",
        ):
            assert number in page
            assert number in text
    for number in ("0.330", "0.350", "6.28", "5.40", "6.81", "6.80", "9.3"):  # probe, domain and general loss, latency
        assert number in page
        assert number in text
    for number in ("0.6987", "90.9", "17 of 900", "39,277", "18.3", "2,113", report_artifacts.COMMIT[:10]):
        assert number in page


def _plan_rows(page: str) -> list[list[str]]:
    (_, _, after) = page.partition("Plan and result")
    body = after.partition("<tbody>")[2].partition("</tbody>")[0]
    return [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", body)]


def test_plan_stands_beside_fact_and_what_was_resumed_has_no_ratio(written):
    rows = {row[0]: row[1:] for row in _plan_rows(_page(written))}
    assert rows["pretrain@mlm"][0:3] == ["5 min 08 s", "5 min 42 s", "0.90"]
    assert rows["pretrain@mlm"][5] == "1.10"
    assert {name: (row[2], row[5]) for name, row in rows.items() if name.endswith("-1")} == {
        "finetune@section-base-full-1": ("\u2013", "\u2013"),
        "finetune@section-mlm-full-1": ("\u2013", "\u2013"),
    }
    assert len(rows) == 1 + 6 + 2


def test_without_a_plan_the_page_does_not_speak_of_one(copy):
    for path in (copy / "records").rglob("*.json"):
        record = {name: value for name, value in json.loads(path.read_text()).items() if not name.startswith("forecast_")}
        write_json(path, record)
    assert "Plan and result" not in _page(report_artifacts.write_report(copy))


@pytest.mark.parametrize(
    ("file", "keys"),
    [
        ("evaluate/metrics.json", ["section", "metric"]),
        ("pretrain/mlm/metrics.json", ["heldout_loss", "control"]),
        ("export/section/metrics.json", ["variants", "fp32", "metric"]),
        ("register/section/registration.json", ["model_uri"]),
        ("tokenize/metrics.json", ["corpus", "efficiency"]),
        ("ingest/text.json", ["decontamination", "evaluation_texts"]),
        ("records/pretrain/mlm.json", ["wall_s"]),
    ],
)
def test_a_value_that_an_artifact_lacks_is_named(copy, file, keys):
    found = json.loads((copy / file).read_text(encoding="utf-8"))
    *above, last = keys
    del functools.reduce(dict.__getitem__, above, found)[last]
    write_json(copy / file, found)
    with pytest.raises((UndefinedError, KeyError), match=f"'{last}'"):
        report_artifacts.write_report(copy)


def test_no_template_turns_escaping_off():
    templates = Path(render.__file__).with_name("templates")
    text = "".join(path.read_text(encoding="utf-8") for path in templates.rglob("*") if path.is_file())
    assert "{{" in text
    assert not re.search(r"\|\s*safe|autoescape|Markup", text)


def test_the_summary_fits_a_terminal(written):
    lines = (written / "summary.txt").read_text(encoding="utf-8").splitlines()
    assert 8 <= len(lines) <= 22
    assert max(map(len, lines)) <= COLUMNS
    assert all(line.isascii() for line in lines)


def test_data_docs_are_linked_relative_to_the_page(written):
    (link,) = re.findall(r'href="([^#"]+)"', _page(written))
    assert link.endswith("reports/data_docs/index.html")
    assert not link.startswith("/")


def test_equal_artifacts_give_equal_bytes(artifacts, written):
    before = _page(written)
    assert _page(report_artifacts.write_report(artifacts)) == before


@pytest.mark.parametrize(
    ("missing", "section"),
    [
        ("pretrain", "pretraining"),
        ("probe", "probe"),
        ("export", "deployment"),
        ("validate", "checks"),
        ("records", "pipeline"),
        ("finetune", "finetuning"),
        ("evaluate", "results"),
        ("ingest/text.json", "trust"),
    ],
)
def test_a_part_that_was_not_made_is_left_out(copy, missing, section):
    (copy / missing).unlink() if missing.endswith(".json") else shutil.rmtree(copy / missing)
    shown = _sections(_page(report_artifacts.write_report(copy)))
    assert section not in shown
    also = {"worth"} if missing == "probe" else {"confusion", "calibration"}
    assert set(EVERY_SECTION) - set(shown) <= {section, *also}


def test_without_general_text_the_page_says_that_forgetting_was_not_measured(copy):
    for path in (copy / "pretrain/mlm/metrics.json", copy / "encoders/mlm/retention.json"):
        found = json.loads(path.read_text())
        found.pop("general_loss", None)
        for candidate in found.get("candidates", []):
            del candidate["general_loss"]
        path.write_text(json.dumps(found))
    history = copy / "pretrain/mlm/history.csv"
    history.write_text(history.read_text().replace("general_loss", "unused"))
    out = report_artifacts.write_report(copy)
    assert "forgetting was not measured" in _page(out)
    assert "general" not in next(line for line in (out / "summary.txt").read_text().splitlines() if line.startswith("pretrain"))


def test_the_page_says_what_decontamination_found_or_that_it_was_not_done(copy):
    text = " ".join(f"word{number}" for number in range(20))
    index = EvaluationIndex.build([EvaluationText("tables/section:test", "1", text)], DecontaminationConfig())
    found = verdict(index, decide(index.check([text, "something else"]), index.config), documents=2)
    write_json(copy / "ingest/text.json", {"decontamination": found})
    told = "2 documents of the corpus were compared with 1 dev and test texts, by runs of 13 words: 1 documents were dropped"
    page = " ".join(_page(report_artifacts.write_report(copy)).split())
    assert told in page and "(tables/section:test 1)" in page
    write_json(copy / "ingest/text.json", {"decontamination": verdict(None, Contamination((), ()), documents=2)})
    assert "The corpus was not searched for dev and test texts" in _page(report_artifacts.write_report(copy))


@pytest.mark.parametrize(
    "runs",
    [
        runs(tasks=["entities"], seeds=[0]),
        runs(tasks=["section"], encoders=["base"], seeds=[0]),
        runs(tasks=["section"], encoders=["mlm"], seeds=[0, 1], reference=Variant(encoder="mlm", recipe="full")),
    ],
    ids=["tagging only", "base only", "made only"],
)
def test_smaller_pipelines_are_reported_as_well(tmp_path, runs):
    report_artifacts.write_all(tmp_path, runs)
    out = report_artifacts.write_report(tmp_path, runs)
    shown = _sections(_page(out))
    assert ("confusion" in shown) == ("section" in runs.all_tasks)
    compared = json.loads((tmp_path / "evaluate/comparisons.json").read_text())["tasks"][runs.all_tasks[0]]
    if len(runs.encoders) == 1:
        assert compared["sentence"] == f"only {runs.encoders[0]}-full was fine-tuned (runs): nothing to compare"
        assert compared["sentence"] in _page(out)
    else:
        assert "one seed, so the interval speaks of rows alone" in compared["variants"]["mlm-full"]["sentence"]


def test_every_variant_is_compared_with_the_reference_and_p_adjusted_over_all(tmp_path: Path) -> None:
    many = runs(tasks=["section"], single_seed_tasks=["entities"], encoders=["base", "mlm"], recipes=["full", "lora"], seeds=[0, 1])
    report_artifacts.write_all(tmp_path, many)
    found = json.loads((tmp_path / "evaluate/comparisons.json").read_text())
    others = ["base-lora", "mlm-full", "mlm-lora"]
    assert {task: list(each["variants"]) for task, each in found["tasks"].items()} == {"section": others, "entities": others}
    assert found["comparisons"] == 9  # three variants on two tasks, and the mean of each
    assert [each["variant"] for each in found["mean_over_tasks"]] == others
    compared = [each for task in found["tasks"].values() for each in task["variants"].values()]
    smallest = min([*compared, *found["mean_over_tasks"]], key=lambda each: each["difference"]["p"])
    assert smallest["p_holm"] == pytest.approx(min(1.0, 9 * smallest["difference"]["p"]))
    out = report_artifacts.write_report(tmp_path, many)
    for text in (_page(out), (out / "summary.txt").read_text()):
        assert all(text.count(name) >= 2 for name in others)
    assert (out / "heldout_loss.csv").read_text().startswith("step,base,mlm\n0,6.381,6.381\n")


def test_a_run_that_params_names_and_nobody_fine_tuned_is_named(copy):
    shutil.rmtree(copy / "finetune/section/mlm-full-1")
    with pytest.raises(DataError, match=r"section/mlm-full-1/predictions\.parquet: no such file; params\.yaml \(runs\) names this run"):
        report_artifacts.judge(copy, report_artifacts.RUNS)


def test_a_leftover_run_that_params_does_not_name_changes_nothing(artifacts, copy):
    shutil.copytree(copy / "finetune/section/base-full-0", copy / "finetune/section/base-full-9")
    report_artifacts.judge(copy, report_artifacts.RUNS)
    for name in ("metrics.json", "comparisons.json", "scores.csv", "confusion_section.csv"):
        assert (copy / "evaluate" / name).read_bytes() == (artifacts / "evaluate" / name).read_bytes()


def test_the_judgement_adjusts_p_and_names_the_scope(artifacts):
    tasks = json.loads((artifacts / "evaluate/comparisons.json").read_text())["tasks"]
    found = {task: each["variants"]["mlm-full"] for task, each in tasks.items()}
    assert found["section"]["p_holm"] >= found["section"]["difference"]["p"]
    assert "900 test rows, 3 seeds" in found["section"]["sentence"]
    assert "one seed, so the interval speaks of rows alone" in found["entities"]["sentence"]


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (4.9132, 4.9133), (-3e4, 1.2e5), (0.31, 0.31)])
def test_ticks_are_few_round_and_inside(low, high):
    found = ticks(low, high)
    assert len(found) <= 6
    assert all(low - 1e-6 <= tick <= high + 1e-6 for tick in found)


def test_the_gap_between_training_and_dev_loss_is_shown(written: Path) -> None:
    page = _page(written)
    section = page[page.index('<section id="finetuning"') :]
    assert "+1.52" in section, "1.93 on dev rows of `section`, 0.41 on training rows"


def test_spikes_and_an_early_end_are_reported(copy: Path) -> None:
    path = copy / "pretrain/mlm/metrics.json"
    write_json(
        path, {**json.loads(path.read_text(encoding="utf-8")), "spikes": [17], "skipped_steps": [15, 16, 17], "stopped_early_at": 40}
    )
    page = _page(report_artifacts.write_report(copy))
    assert "Loss spikes: 1, at step 17." in page
    assert "Updates undone: 3." in page
    assert "Stopped early after step 40" in page


def test_without_general_tasks_the_page_says_that_forgetting_was_not_measured_on_one(copy: Path) -> None:
    for name in ("comparisons.json", "curves.json"):
        found = json.loads((copy / "probe" / name).read_text(encoding="utf-8"))
        del found.get("tasks", found)["supersense"]
        write_json(copy / "probe" / name, found)
    page = _page(report_artifacts.write_report(copy))
    assert "No general task was given" in page and "Forgotten" not in page


def test_why_the_probe_has_no_figure_reaches_the_page(copy: Path) -> None:
    found = json.loads((copy / "probe/comparisons.json").read_text(encoding="utf-8"))
    found |= {"tasks": {}, "missing": [{"task": "section", "reason": "section: no test rows"}]}
    write_json(copy / "probe/comparisons.json", found)
    assert "no test rows" in _page(report_artifacts.write_report(copy))
