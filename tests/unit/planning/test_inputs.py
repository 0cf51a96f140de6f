"""What a trial reads before and after the data stages have run."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from acclimate import artifacts
from acclimate.config import Config
from acclimate.data.encoding import read_vocabulary
from acclimate.params_file import read_yaml
from acclimate.planning import inputs
from acclimate.planning.limits import host_limit_mb
from acclimate.training.heldout import read_packed

ROOT = Path(__file__).parents[3]


@pytest.fixture
def config(tmp_path, tiny_encoder_dir) -> Config:
    """One small task, and the tiny encoder."""
    (tmp_path / "data").mkdir()
    texts = [f"sentence number {number}" for number in range(300)]
    pq.write_table(pa.table({"text": texts, "label": ["even", "odd"] * 150}), tmp_path / "data/mine.parquet")
    raw = read_yaml(ROOT / "params.yaml")
    raw["model"] = {"source": "path", "name": str(tiny_encoder_dir)}
    raw["tasks"] = {"mine": {"kind": "classification", "data": "mine.parquet", "max_train_rows": 100, "max_tokens": 16}}
    raw["runs"] = {"tasks": ["mine"]}
    raw["pretrain"] |= {"rows_per_batch": 4, "heldout_rows": 6}
    raw["pretrain"]["retention"]["task"] = "mine"
    raw["probe"], raw["export"] = {"tasks": ["mine"]}, {"tasks": ["mine"]}
    return Config(**raw)


def test_paths_are_outs_of_the_dag():
    stages = read_yaml(ROOT / "dvc.yaml")["stages"]
    outs = {out for stage in stages.values() for out in stage["outs"]}
    assert {str(inputs.BACKBONE), str(inputs.INGEST), str(inputs.TOKENS)} <= outs


def test_before_any_stage_has_run_everything_is_stood_in_for(config, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    found = inputs.find_inputs(config, scratch, project=tmp_path)
    assert len(found.notes) == 2
    corpus, heldout = (read_packed(found.tokens, split) for split in ("corpus", "heldout"))
    assert corpus.ids.shape == (8 * 4, 128)
    assert heldout.ids.shape == (6, 128)
    assert not set(read_vocabulary(found.encoder).special_ids) & set(corpus.ids.ravel().tolist())
    assert pq.read_table(found.tables["mine"] / "train.parquet").num_rows == 100


def test_artifacts_are_used_while_params_are_those_they_were_made_by(config, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    made = inputs.find_inputs(config, scratch, project=tmp_path)
    values = config.model_dump(mode="json", by_alias=True)
    for source, target, sections in (
        (made.encoder, inputs.BACKBONE, ["model"]),
        (made.tokens, inputs.TOKENS, ["tokenize"]),
        (scratch / "tables", inputs.INGEST / "tables", []),
        (None, inputs.INGEST, ["seed", "ingest", "tasks"]),
    ):
        directory = tmp_path / target
        directory.parent.mkdir(parents=True, exist_ok=True)
        if source:
            source.rename(directory)
        if sections:
            artifacts.write_manifest(directory, stage="t", params={name: values[name] for name in sections}, inputs={})
    again = inputs.find_inputs(config, scratch, project=tmp_path)
    assert again.notes == []
    assert again.tables["mine"] == tmp_path / inputs.INGEST / "tables" / "mine"
    other = Config(**{**values, "tasks": {"mine": {**values["tasks"]["mine"], "max_train_rows": 50}}})
    assert [note for note in inputs.find_inputs(other, scratch, project=tmp_path).notes if "mine" in note]


@pytest.mark.parametrize(
    ("directory", "names"),
    [
        ("", ("memory.max", "memory.current", "inactive_file")),
        ("memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")),
    ],
)
def test_a_containers_limit_counts_less_what_it_uses_but_for_cached_files(tmp_path, directory, names):
    limit, usage, cache = names
    (tmp_path / directory).mkdir(exist_ok=True)
    for name, text in ((limit, f"{100 << 20}"), (usage, f"{90 << 20}"), ("memory.stat", f"anon 1\n{cache} {30 << 20}\n")):
        (tmp_path / directory / name).write_text(text)
    assert host_limit_mb(tmp_path) == (40.0, "left by the container's limit")
    (tmp_path / directory / limit).write_text("max")
    assert host_limit_mb(tmp_path)[1] == "free on this machine"
