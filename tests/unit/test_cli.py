"""The command line: checking, profiles and the summary."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from acclimate.cli import main
from acclimate.config import load_config
from acclimate.profiles import apply_profile, profile_names

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A directory with this project's params files."""
    for file in ROOT.glob("params*.yaml"):
        shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_check_says_in_a_line_what_will_run(project, capsys):
    assert main(["check"]) == 0
    assert "fine-tuning runs" in capsys.readouterr().out


def test_check_names_every_mistake_at_once(project, capsys):
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("  epochs:", "  epocs:").replace("beta2:", "betta2:"))
    assert main(["check"]) == 1
    error = capsys.readouterr().err
    assert "finetune.epocs: unknown key; did you mean `epochs`?" in error
    assert "pretrain.optimizer.betta2: unknown key; did you mean `beta2`?" in error


def test_check_names_every_mistake_in_the_options_of_components_and_sources(project, capsys):
    text = (project / "params.yaml").read_text()
    for old, new in (
        ("objectives: topics", "objectives: {mlm: {rat: 0.2}}"),
        ("{enabled: true, ngram: 13", "{enabled: true, ngran: 13"),
        ("- {data:", "- {dada:"),
    ):
        assert old in text, old
        text = text.replace(old, new)
    (project / "params.yaml").write_text(text)
    assert main(["check"]) == 1
    error = capsys.readouterr().err
    assert "pretrain.objectives.mlm.rat: unknown key; did you mean `rate`?" in error
    assert "ingest.decontamination.ngran: unknown key; did you mean `ngram`?" in error
    assert "ingest.corpus.0.dada: unknown key; did you mean `data`?" in error
    assert "ingest.corpus.0.data: missing" in error


def test_check_imports_no_models_and_no_tracker(project):
    code = (
        "import sys, acclimate.cli; acclimate.cli.main(['check'])\n"
        "print([name for name in ('transformers', 'mlflow', 'prefect', 'dvc', 'pandas', 'sklearn') if name in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=True).stdout
    assert printed.splitlines()[-1] == "[]"


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom acclimate.cli import main\ntry:\n    main(['plan', '--help'])\n"
        "except SystemExit:\n    print('torch' in sys.modules, 'pyarrow' in sys.modules)"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "--memory-mb" in printed
    assert printed.splitlines()[-1] == "False False"


def test_plan_of_invalid_params_says_so_before_it_tries_anything(project, capsys):
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("  epochs:", "  epocs:"))
    assert main(["plan"]) == 1
    assert "finetune.epocs: unknown key" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["plan", "--memory-mb", "0"])


@pytest.mark.parametrize("name", profile_names(ROOT))
def test_profile_gives_valid_params_and_a_second_time_changes_nothing(project, name):
    assert apply_profile(Path("params.yaml"), name)
    load_config(Path("params.yaml"))
    assert apply_profile(Path("params.yaml"), name) == []


def test_profile_keeps_comments_and_order_of_what_it_does_not_name(project):
    before = (project / "params.yaml").read_text()
    (project / "params.one.yaml").write_text("finetune: {learning_rate: 2.0e-5}\n")
    changes = apply_profile(Path("params.yaml"), "one")
    assert [(change.path, change.after) for change in changes] == [("finetune.learning_rate", 2e-5)]
    after = (project / "params.yaml").read_text()
    changed = [pair for pair in zip(before.splitlines(), after.splitlines(), strict=True) if pair[0] != pair[1]]
    assert [new for _, new in changed] == ["  learning_rate: 2.0e-5"]


def test_profile_replaces_a_list_whole(project):
    (project / "params.one.yaml").write_text("runs: {seeds: [7]}\n")
    apply_profile(Path("params.yaml"), "one")
    assert load_config(Path("params.yaml")).runs.seeds == [7]


def test_profile_replaces_a_choice_of_components_whole(project):
    (project / "params.one.yaml").write_text("pretrain: {objectives: {mlm: {mask_share: 1.0}}}\nrecipes: {lora: {strategy: full}}\n")
    apply_profile(Path("params.yaml"), "one")
    config = load_config(Path("params.yaml"))
    assert config.encoder("adapted").objectives[0].component.rate == 0.15
    assert config.recipe("lora").strategy.name == "full"


def test_profile_passes_over_budgets_of_recipes_encoders_and_tasks_that_are_not_there(project):
    budgets = (
        "recipes: {a: {epochs: 1}, b: {strategy: lora}}\nencoders: {a: {tokens: 1}, b: {start: adapted}}\ntasks: {a: {max_length: 8}}\n"
    )
    (project / "params.one.yaml").write_text(budgets)
    apply_profile(Path("params.yaml"), "one")
    config = load_config(Path("params.yaml"))
    assert (list(config.recipes), list(config.encoders)) == (["full", "lora", "b"], ["adapted", "other", "b"])
    assert "a" not in config.tasks


def test_profile_adds_the_recipe_that_it_runs_itself(project):
    (project / "params.one.yaml").write_text("recipes: {a: {epochs: 1}, b: {epochs: 1}}\nruns: {recipes: [full, a]}\n")
    apply_profile(project / "params.yaml", "one")
    assert set(load_config(project / "params.yaml").recipes) == {"full", "lora", "a"}


def test_profile_that_would_not_be_valid_leaves_params_as_they_were(project, capsys):
    before = (project / "params.yaml").read_text()
    (project / "params.bad.yaml").write_text("finetune: {epocs: 3}\n")
    assert main(["profile", "bad"]) == 1
    error = capsys.readouterr().err
    assert "params.yaml with params.bad.yaml: 1 problem" in error
    assert "finetune.epocs: unknown key; did you mean `epochs`?" in error
    assert (project / "params.yaml").read_text() == before
    assert not list(project.glob(".params*"))


def test_unknown_profile_names_the_nearest(project, capsys):
    assert main(["profile", "gpuu"]) == 1
    assert "no profile called 'gpuu'; did you mean 'gpu'?" in capsys.readouterr().err


def test_summary_before_any_run_says_what_to_do(project, capsys):
    assert main(["summary"]) == 1
    assert "`make run` makes it" in capsys.readouterr().err


def test_summary_prints_the_file_and_where_to_look(project, capsys):
    directory = project / "artifacts"
    for name, text in (
        ("report/summary.txt", "twelve lines\n"),
        ("report/report.html", "<html>"),
        ("register/t/registration.json", '{"name": "m-t", "version": 3, "aliases": ["challenger"]}'),
    ):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    params = Path("params.yaml")
    params.write_text(params.read_text().replace("export:\n  tasks: [section]", "export:\n  tasks: [t]"))
    assert main(["summary", "artifacts/report/summary.txt"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("twelve lines\n")
    assert "artifacts/report/report.html" in printed
    assert "models:/m-t/3 (became challenger)" in printed
    assert "data_docs" not in printed
