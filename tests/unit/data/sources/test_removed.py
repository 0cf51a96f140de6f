import re
from pathlib import Path

import pytest

from acclimate import plugins
from acclimate.config import CorpusSource
from acclimate.data.sources import files
from acclimate.errors import DataError


@pytest.mark.parametrize(("kind", "command"), [("remote", "dvc import-url <url> data/..."), ("sql", "dvc import-db --conn")])
def test_a_source_that_was_removed_names_what_replaces_it(kind: str, command: str) -> None:
    with pytest.raises(ValueError, match=re.escape(command)) as error:
        CorpusSource(kind=kind)
    assert "kind: files" in str(error.value)
    assert kind not in plugins.names("data.sources")


@pytest.mark.parametrize(
    "url", ["s3://bucket/*.parquet", "https://example.org/x.csv", "file:///etc/passwd", "simplecache::https://h/x.csv"]
)
def test_a_url_in_place_of_a_file_names_what_to_do(url: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="dvc import-url"):
        files.parts(files.Config(data=url), tmp_path, where="ingest.corpus.0")
