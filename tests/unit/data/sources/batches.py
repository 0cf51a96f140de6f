"""Every batch of a source, part by part, as ingest reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from acclimate.data.reading.sources import SourceBatch


def read(kind: Any, config: Any, data: Path) -> list[SourceBatch]:
    return [batch for part in kind.parts(config, data, where="w") for batch in kind.read_part(config, part, data, where="w")]
