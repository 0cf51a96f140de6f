"""When and where the stages run: Prefect only. What runs, and in which order, is read from DVC."""

import os
from pathlib import Path

from acclimate.runtime import prepare_environment

# Prefect reads its settings, and makes its home but not the directory above, when it is imported: so this stands before
# any import of it. Values that are set stay.
prepare_environment()
Path(os.environ["PREFECT_HOME"]).parent.mkdir(parents=True, exist_ok=True)
