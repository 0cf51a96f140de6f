"""A params.yaml that names what an earlier version had is refused in one line, with the replacement."""

import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from acclimate import plugins
from acclimate.data.options import CorpusSource
from acclimate.data.reading.sources import files
from acclimate.errors import DataError
from acclimate.training.options import OptimizerConfig, RecipeConfig


@pytest.mark.parametrize(("kind", "command"), [("remote", "dvc import-url <url> data/..."), ("sql", "dvc import-db --conn")])
def test_a_source_that_was_removed_names_what_replaces_it(kind: str, command: str) -> None:
    with pytest.raises(ValueError, match=re.escape(command)) as error:
        CorpusSource(kind=kind)
    assert "kind: files" in str(error.value)
    assert kind not in plugins.names("data.reading.sources")


@pytest.mark.parametrize("section", [partial(RecipeConfig, strategy="full"), partial(OptimizerConfig, learning_rate=1e-3)])
def test_an_optimizer_that_was_removed_names_what_replaces_it(section: partial[Any]) -> None:
    name = "optimizer" if section.func is RecipeConfig else "name"
    with pytest.raises(ValueError, match=re.escape(f"{name}\n  Value error, `lamb` was removed; use `adamw` or `stable_adamw`")):
        section(**{name: "lamb"})


@pytest.mark.parametrize(
    "url", ["s3://bucket/*.parquet", "https://example.org/x.csv", "file:///etc/passwd", "simplecache::https://h/x.csv"]
)
def test_a_url_in_place_of_a_file_names_what_to_do(url: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="dvc import-url"):
        files.parts(files.Config(data=url), tmp_path, where="ingest.corpus.0")
