"""`champion` moves to the best version only, whoever else promotes, and never without a gate."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from acclimate.adapters import tracking
from acclimate.adapters.gates import Candidate, judge, reason_to_stay
from acclimate.adapters.options import GatesConfig
from acclimate.adapters.registry import history, main, promote, rollback
from acclimate.errors import GateError, ModelError
from tests.integration.test_registry import make_export
from tests.security.empty_store import RAM, make_store

# MLflow's own on importing it.
pytestmark = pytest.mark.filterwarnings("ignore:.*AnyType:UserWarning")

ROOT = Path(__file__).parents[2]
GATES = GatesConfig(min_metric=0.0, min_over_champion=0.0)


def candidate(value: float) -> Candidate:
    return Candidate("toy", "classification", "macro_f1", value, 0.5, 0.1, 2.0, 1, "mlm", "full", 0, "fp32", "model.onnx", "rows")


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    with tempfile.TemporaryDirectory(dir=RAM) as directory:
        uri = make_store(Path(directory) / "mlflow.db")
        tracking.connect(uri).create_experiment("toy", artifact_location=f"{tracking.artifact_root(uri)}/toy")
        yield uri


def add(store: str, name: str, *values: float) -> None:
    """Versions with these metrics, as `register` leaves them."""
    client = tracking.connect(store)
    if not client.search_registered_models(f"name='{name}'"):
        client.create_registered_model(name)
    for value in values:
        tags = {"metric_name": "macro_f1", "metric": repr(value), "test_rows": "rows", "candidate": json.dumps(asdict(candidate(value)))}
        client.create_model_version(name, source="file:///nowhere", tags=tags)


def champion(store: str, name: str) -> int:
    return int(tracking.connect(store).get_model_version_by_alias(name, "champion").version)


def moves(store: str, name: str) -> list[tuple[int | None, int | None]]:
    return [(move.before, move.after) for move in history(name, uri=store)]


@pytest.fixture(scope="module")
def raced(store, minilm_dir, tmp_path_factory) -> str:
    """The store after every attack of promotions.py, each on a model of its own; MLflow is imported once for all of them."""
    directories = [tmp_path_factory.mktemp(name) for name in ("first", "better", "worse")]
    for directory, value in zip(directories, (0.5, 0.7, 0.55), strict=True):
        make_export(directory, minilm_dir / "tokenizer.json", "classification", value=value)
    add(store, "race", 0.5, 0.9, 0.6, 0.7)
    add(store, "machines", 0.5, 0.6, 0.9, 0.7)
    add(store, "kill", 0.5, 0.6, 0.7)
    for name in ("machines", "kill"):
        promote(name, GATES, uri=store, version=1)
    command = [sys.executable, "-m", "tests.security.promotions", store, *map(str, directories)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, timeout=300)
    assert done.stdout.splitlines() == ["[0]", "[0, 0]", "[0, 0, 0, 0]", "[-9]", "[0, 0, 0]"], done.stderr
    return store


def test_the_worse_of_two_registrations_at_once_does_not_become_champion(raced):
    best = tracking.connect(raced).get_model_version_by_alias("register-toy", "champion")
    assert best.tags["metric"] == "0.7"
    assert moves(raced, "register-toy") == [(None, 1), (1, int(best.version))]


def test_promotions_at_once_end_with_the_best_and_a_ledger_without_forks(raced):
    assert champion(raced, "race") == 2
    found = moves(raced, "race")
    assert [before for before, _ in found] == [None, *(after for _, after in found[:-1])]


def test_promotions_of_two_machines_end_with_the_best(raced):
    assert champion(raced, "machines") == 3
    assert rollback("machines", uri=raced).after == 1


def test_a_kill_between_ledger_and_alias_is_explained(raced, capsys, monkeypatch):
    assert champion(raced, "kill") == 1
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", raced)
    assert main(["history", "kill"]) == 0
    assert "2 -> 1  the alias was found here: a promotion was stopped" in capsys.readouterr().out
    promote("kill", GATES, uri=raced, version=3)
    assert moves(raced, "kill") == [(None, 1), (1, 2), (2, 1), (1, 3)]
    assert rollback("kill", uri=raced).after == 1


def test_a_champion_set_by_hand_is_judged_against_and_explained(store):
    add(store, "by-hand", 0.9, 0.6)
    tracking.connect(store).set_registered_model_alias("by-hand", "champion", "1")
    refusal = r"1 of 2 gates do not hold: min_over_champion is -0.3000, its limit 0 \(macro_f1 0.6000 against 0.9000\)"
    with pytest.raises(GateError, match=refusal):
        promote("by-hand", GATES, uri=store, version=2)
    assert moves(store, "by-hand") == [(None, 1)]


@pytest.mark.parametrize(
    ("gates", "reason"),
    [
        (GatesConfig(), "sets no gate"),
        (GatesConfig(min_over_champion=0.0), r"no gate applies: min_over_champion \(there is no champion yet\)"),
        (GatesConfig(min_metric=0.8), "1 of 1 gates do not hold: min_metric is 0.6000, its limit 0.8"),
    ],
)
def test_nothing_becomes_champion_without_a_gate_that_holds(gates, reason):
    assert re.search(reason, reason_to_stay(judge(candidate(0.6), gates, None)))


def test_a_version_is_promoted_later_by_the_gates_of_the_params(store, capsys, monkeypatch, tmp_path):
    add(store, "later", 0.6, 0.7)
    params = (ROOT / "params.yaml").read_text()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    Path("params.yaml").write_text(params.replace("min_over_baseline: 0.0", "min_over_baseline: 0.15"))
    assert main(["promote", "later", "--version", "1"]) == 1
    assert "registry: later version 1: 1 of 3 gates do not hold: min_over_baseline is 0.1000" in capsys.readouterr().err
    Path("artifacts/register/toy").mkdir(parents=True)
    Path("artifacts/register/toy/registration.json").write_text(json.dumps({"name": "later", "version": 2}))
    assert main(["promote", "later"]) == 0
    assert main(["promote", "later"]) == 0  # again: nothing to do
    assert moves(store, "later") == [(None, 2)]
    client = tracking.connect(store)
    assert "min_over_baseline" in client.get_model_version("later", "2").tags["gates"]
    client.create_model_version("later", source="file:///nowhere", tags={"metric": "1.0"})
    assert main(["promote", "later", "--version", "3"]) == 1
    assert "it was not verified" in capsys.readouterr().err


def test_a_ledger_changed_by_hand_is_one_line(store):
    add(store, "changed", 0.5)
    tracking.connect(store).set_registered_model_tag("changed", "champion.move.0007", "{}")
    with pytest.raises(ModelError, match=r"its tag champion.move.0007 is no line of the ledger"):
        history("changed", uri=store)
