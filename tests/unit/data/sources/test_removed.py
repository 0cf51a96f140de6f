import re

import pytest

from acclimate import plugins
from acclimate.config import CorpusSource


@pytest.mark.parametrize(("kind", "command"), [("remote", "dvc import-url <url> data/..."), ("sql", "dvc import-db --conn")])
def test_a_source_that_was_removed_names_what_replaces_it(kind: str, command: str) -> None:
    with pytest.raises(ValueError, match=re.escape(command)) as error:
        CorpusSource(kind=kind)
    assert "kind: files" in str(error.value)
    assert kind not in plugins.names("data.sources")
